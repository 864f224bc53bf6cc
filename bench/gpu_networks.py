"""The networks and frames of bench/gpu.py, and functions that run them on a device."""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from upres.engine.core.frame import Color, Frame, Pixels
from upres.engine.models import per_frame
from upres.engine.models.manifest import find
from upres.engine.models.per_frame import PerFrameModel
from upres.engine.models.tuned import Choice
from upres.engine.runtime import registry
from upres.engine.runtime.base import cpus
from upres.engine.runtime.ort import OnnxRuntimeGraph
from upres.engine.runtime.ring.host import HostDevice, HostGraph
from upres.engine.tuning.picture import picture

X2, X4 = "realesr-animevideov3-x2", "realesr-animevideov3-x4"
EXACT = Choice("onnxruntime", "fp32")
COLOR = Color("bt709", "tv", "bt709", "bt709")
HOST = Choice("the host in place of a GPU", "fp32")


def choices(network: str, device: str) -> Iterator[Choice]:
    """Yield every runtime and precision that can run a network on cuda; for host, only the host as a stand-in for a device."""
    if device == "host":
        yield HOST
        return
    _, facts = find(network)
    for runtime in registry.every():
        if runtime.device == device and runtime.unavailable() is None:
            for precision in runtime.precisions():
                if facts.variant("high", (precision,)).precision == precision:
                    yield Choice(runtime.name, precision)


def load_choice(network: str, choice: Choice) -> PerFrameModel:
    """Load a network with a runtime and precision."""
    if choice != HOST:
        return per_frame.load_choice(network, choice)
    path, facts = find(network)
    return PerFrameModel(host_graph(path), facts)


def host_graph(path: Path) -> HostGraph:
    """Load a graph on the host as a stand-in for a device."""
    threads = cpus()
    return HostGraph(OnnxRuntimeGraph(path, threads), HostDevice(), load=lambda model: OnnxRuntimeGraph(model, threads))


def name_of(choice: Choice) -> str:
    """Return the name of a choice in the results."""
    return f"{choice.runtime} {choice.precision}"


def nothing_runs(device: str) -> dict[str, str]:
    """Return the result for a device that no runtime supports, with each runtime's reason."""
    reasons = [f"{runtime.name}: {runtime.unavailable() or 'on the CPU'}" for runtime in registry.every()]
    return {"skipped": f"no runtime runs on {device} here ({'; '.join(reasons)})"}


def frames(count: int, width: int, height: int) -> list[Pixels]:
    """Return different frames of a moving picture."""
    first = picture(width, height)
    return [np.roll(first, (3 * index, 5 * index), axis=(0, 1)) for index in range(count)]


def upscale(model: PerFrameModel, pixels: Sequence[Pixels]) -> list[Frame]:
    """Push all frames through one session, as many in flight as it allows; the timestamps are the frame numbers."""
    first = Frame(pixels[0], 0, 1)
    session = model.open(first.width, first.height)
    results = [frame for number, each in enumerate(pixels) for frame in session.push(Frame(each, number, 1))]
    results += session.flush()
    session.close()
    return results


def upscale_one(model: PerFrameModel, pixels: Pixels) -> Pixels:
    """Upscale a single frame."""
    return next(islice(upscale(model, [pixels]), 1)).pixels
