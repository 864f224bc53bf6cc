"""Measure whether copies and work on the host overlap with computing of other frames, for bench/gpu.py."""

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from gpu_networks import COLOR, HOST, X2, choices, frames, host_graph, name_of, nothing_runs

from upres.engine.color.convert import FromRGB
from upres.engine.color.planes import ToPlanes
from upres.engine.core.errors import ModelError
from upres.engine.core.frame import Layout, Pixels
from upres.engine.models.in_flight import DEPTH
from upres.engine.models.manifest import find
from upres.engine.models.padding import cut
from upres.engine.models.planar import PlanarGraph, Planes
from upres.engine.models.tensors import RGB
from upres.engine.runtime import registry
from upres.engine.runtime.ring.device import Bound, DeviceGraph
from upres.engine.runtime.ring.ring import Ring, Specs

if TYPE_CHECKING:
    from gpu import Options

WHOLE = 1 << 16  # side of a tile in pixels: larger than any frame
DEPTHS = (1, 2, 3, 4)
SECONDS = 1.0  # of each measurement, at most RUNS runs
RUNS = 200
MAX_OVER_SLOWEST = 1.1  # goal: maximum time of the ring relative to the slowest of copy in, computing and copy out
MIN_OVER_PLAIN = 1.3  # goal: minimum speedup over sequential runs


def overlap(options: "Options") -> dict[str, Any]:
    """Measure the seconds per frame of the ring at several depths, of its parts alone, and of sequential runs.

    Measured with frames in RGB, and in planes whose colors the device converts.
    """
    width, height, seconds = (64, 48, 0.02) if options.tiny else (1280, 720, SECONDS)
    pictures = frames(4, width, height)
    results: dict[str, Any] = {}
    for name, load in _graphs(options.device):
        try:
            graph = load()
            results[name] = _measure(graph, RGB(find(X2)[1], width, height, np.dtype(np.uint8)), pictures, seconds)
            planar = PlanarGraph(graph, Layout(COLOR, "center"))
            planes = [ToPlanes(COLOR)(FromRGB(COLOR, "yuv420p")(each)) for each in pictures]
            results[f"{name}, planes"] = _measure(planar, Planes(find(X2)[1], width, height), planes, seconds)
        except ModelError as error:
            results[name] = {**results.get(name, {}), "problem": str(error)}
        options.keep(results)
    return results or nothing_runs(options.device)


def _graphs(device: str) -> Iterator[tuple[str, Callable[[], DeviceGraph]]]:
    path, _ = find(X2)
    for choice in choices(X2, device):
        if choice == HOST:
            yield name_of(choice), lambda: host_graph(path)
        else:
            yield name_of(choice), lambda choice=choice: registry.choose(choice.runtime).load(path, choice.precision)


def _measure(graph: DeviceGraph, tensors: RGB | Planes, pictures: list[Pixels], seconds: float) -> dict[str, Any]:
    tiles = cut(tensors.facts, tensors.width, tensors.height, WHOLE, on_device=True)
    inputs = tensors.inputs(tiles)
    if note := graph.prepare(inputs, width=tensors.width, height=tensors.height):
        raise ModelError(note)
    specs = inputs, tensors.between(tiles), tensors.outputs(tiles)
    sources = [feeds for each in pictures for feeds in tensors.cut(tiles, each)]
    run_seconds = _seconds(lambda: graph.run(sources[0]), 1)
    runs = min(RUNS, max(DEPTHS[-1], int(seconds / run_seconds)))
    parts = _parts(graph, *specs, runs)
    plain = _seconds(lambda: [graph.run(sources[number % 4]) for number in range(runs)], runs)
    rings = {depth: _ring_seconds(graph, *specs, depth, sources, runs) for depth in DEPTHS}
    return {
        "runs_on": graph.report,
        "runs": runs,
        "seconds": {**parts, "plain": plain, **{f"ring of {depth}": seconds for depth, seconds in rings.items()}},
        "over_slowest_part": rings[DEPTH] / max(parts.values()),
        "goal_over_slowest_part": MAX_OVER_SLOWEST,
        "faster_than_plain": plain / rings[DEPTH],
        "goal_faster_than_plain": MIN_OVER_PLAIN,
    }


def _ring_seconds(
    graph: DeviceGraph, inputs: Specs, between: Specs, outputs: Specs, depth: int, sources: list[Any], runs: int
) -> float:
    ring = Ring(graph, inputs, outputs, depth, between=between)

    def through() -> None:
        for number in range(runs):
            if ring.full:
                ring.collect()
            ring.submit(sources[number % len(sources)])
        while len(ring):
            ring.collect()

    seconds = _seconds(through, runs)
    ring.close()
    return seconds


def _parts(graph: DeviceGraph, inputs: Specs, between: Specs, outputs: Specs, runs: int) -> dict[str, float]:
    """Measure the seconds of each part alone, queued all at once and waited for once."""
    device, stream, specs = graph.device, graph.device.stream(), {**inputs, **between, **outputs}
    host = {name: device.host_memory(spec.nbytes) for name, spec in specs.items()}
    on_device = {name: device.memory(spec.nbytes) for name, spec in specs.items()}
    for name in inputs:  # zeros, so that row and column indices are valid
        host[name].array[:] = 0
        stream.copy(host[name], on_device[name])
        stream.record().wait()
    bound = {name: Bound(spec, on_device[name]) for name, spec in specs.items()}

    def queued(work: Callable[[], object], on: Any) -> float:  # noqa: ANN401
        def all_of_it() -> None:
            for _ in range(runs):
                work()
            on.record().wait()

        return _seconds(all_of_it, runs)

    results = {
        "copy in": queued(lambda: [stream.copy(host[name], on_device[name]) for name in inputs], stream),
        "compute": queued(lambda: graph.enqueue(bound), graph.compute),
        "copy out": queued(lambda: [stream.copy(on_device[name], host[name]) for name in outputs], stream),
    }
    for memory in (*host.values(), *on_device.values()):
        memory.close()
    stream.close()
    return results


def _seconds(work: Callable[[], object], runs: int) -> float:
    """Measure the seconds per run of work, after one warm-up call."""
    work()
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) / runs
