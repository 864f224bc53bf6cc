"""Whether copies and the host hide behind the computing of other frames, for bench/gpu.py."""

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from gpu_networks import X2, choices, frames, named, nothing

from upres.engine.core.errors import ModelError
from upres.engine.models.manifest import find
from upres.engine.models.under_way import DEPTH
from upres.engine.runtime import registry
from upres.engine.runtime.ort import OnnxRuntime
from upres.engine.runtime.ring.device import Bound, DeviceGraph, Spec
from upres.engine.runtime.ring.host import HostDevice, HostGraph
from upres.engine.runtime.ring.ring import Ring

if TYPE_CHECKING:
    from gpu import Options

DEPTHS = (1, 2, 3, 4)
MOST_OVER_SLOWEST = 1.1  # what the ring may take, over the slowest of copy in, computing and copy out
LEAST_OVER_PLAIN = 1.3  # how much faster than one whole run after the other it is to be


def overlap(options: "Options") -> dict[str, Any]:
    """Measure the seconds a frame by the ring at several depths, beside its parts alone and plain runs one by one."""
    width, height, runs = (64, 48, 4) if options.tiny else (1280, 720, 200)
    found: dict[str, Any] = {}
    for name, load in _graphs(options.device):
        try:
            found[name] = _measured(load(), width, height, runs)
        except ModelError as error:
            found[name] = {"problem": str(error)}
    return found or nothing(options.device)


def _graphs(device: str) -> Iterator[tuple[str, Callable[[], DeviceGraph]]]:
    path, _ = find(X2)
    if device == "host":
        yield "the host in place of a GPU", lambda: HostGraph(OnnxRuntime().load(path, "fp32"), HostDevice())
        return
    for choice in choices(X2, device):
        yield named(choice), lambda choice=choice: registry.choose(choice.runtime).load(path, choice.precision)


def _measured(graph: DeviceGraph, width: int, height: int, runs: int) -> dict[str, Any]:
    _, facts = find(X2)
    wide, tall = width + 2 * facts.pad, height + 2 * facts.pad
    inputs = {"frame": Spec((1, tall, wide, 3), np.dtype(np.uint8))}
    outputs = {"upscaled": Spec((1, facts.scale * tall, facts.scale * wide, 3), np.dtype(np.uint8))}
    if instead := graph.prepare(inputs, width=width, height=height):
        raise ModelError(instead)
    sources = [np.ascontiguousarray(each)[None] for each in frames(4, wide, tall)]
    parts = _parts(graph, inputs, outputs, runs)
    plain = _seconds(lambda: [graph.run({"frame": sources[number % 4]}) for number in range(runs)], runs)
    rings = {depth: _ring_seconds(graph, inputs, outputs, depth, sources, runs) for depth in DEPTHS}
    return {
        "runs_on": graph.report,
        "seconds": {**parts, "plain": plain, **{f"ring of {depth}": seconds for depth, seconds in rings.items()}},
        "over_slowest_part": rings[DEPTH] / max(parts.values()),
        "goal_over_slowest_part": MOST_OVER_SLOWEST,
        "faster_than_plain": plain / rings[DEPTH],
        "goal_faster_than_plain": LEAST_OVER_PLAIN,
    }


def _ring_seconds(
    graph: DeviceGraph, inputs: dict[str, Spec], outputs: dict[str, Spec], depth: int, sources: list[Any], runs: int
) -> float:
    ring = Ring(graph, inputs, outputs, depth)

    def through() -> None:
        for number in range(runs):
            if ring.full:
                ring.collect()
            ring.submit({"frame": sources[number % len(sources)]})
        while len(ring):
            ring.collect()

    seconds = _seconds(through, runs)
    ring.close()
    return seconds


def _parts(graph: DeviceGraph, inputs: dict[str, Spec], outputs: dict[str, Spec], runs: int) -> dict[str, float]:
    """Take the seconds of each part alone, queued in one go and waited for once."""
    device, stream, specs = graph.on, graph.on.stream(), {**inputs, **outputs}
    host = {name: device.host_memory(spec.nbytes) for name, spec in specs.items()}
    there = {name: device.memory(spec.nbytes) for name, spec in specs.items()}
    bound = {name: Bound(spec, there[name]) for name, spec in specs.items()}

    def queued(work: Callable[[], object], on: Any) -> float:  # noqa: ANN401
        def all_of_it() -> None:
            for _ in range(runs):
                work()
            on.record().wait()

        return _seconds(all_of_it, runs)

    found = {
        "copy in": queued(lambda: [stream.copy(host[name], there[name]) for name in inputs], stream),
        "compute": queued(lambda: graph.enqueue(bound), graph.compute),
        "copy out": queued(lambda: [stream.copy(there[name], host[name]) for name in outputs], stream),
    }
    for memory in (*host.values(), *there.values()):
        memory.close()
    stream.close()
    return found


def _seconds(work: Callable[[], object], runs: int) -> float:
    """Take the seconds a run of work that was done once before."""
    work()
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) / runs
