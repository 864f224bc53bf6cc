"""The networks and frames of bench/gpu.py, and what runs them on a device."""

from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np

from upres.engine.core.frame import Frame, Pixels
from upres.engine.models.manifest import find
from upres.engine.models.per_frame import PerFrameModel, load_choice
from upres.engine.models.tuned import Choice
from upres.engine.runtime import registry
from upres.engine.tuning.picture import picture

X2, X4 = "realesr-animevideov3-x2", "realesr-animevideov3-x4"
EXACT = Choice("onnxruntime", "fp32")


def choices(network: str, device: str) -> Iterator[Choice]:
    """List every runtime and precision that can run a network on cuda; on the host the preferred one, in float32."""
    if device == "host":
        yield Choice(registry.choose().name, "fp32")
        return
    _, facts = find(network)
    for runtime in registry.every():
        if runtime.device == device and runtime.unavailable() is None:
            for precision in runtime.precisions():
                if facts.variant("high", (precision,)).precision == precision:
                    yield Choice(runtime.name, precision)


def named(choice: Choice) -> str:
    """Name a choice in the results."""
    return f"{choice.runtime} {choice.precision}"


def nothing(device: str) -> dict[str, str]:
    """Say that no runtime runs on a device, with each one's reason."""
    reasons = [f"{runtime.name}: {runtime.unavailable() or 'on the CPU'}" for runtime in registry.every()]
    return {"skipped": f"no runtime runs on {device} here ({'; '.join(reasons)})"}


def frames(count: int, width: int, height: int) -> list[Pixels]:
    """Make frames that differ: a picture that moves."""
    first = picture(width, height)
    return [np.roll(first, (3 * index, 5 * index), axis=(0, 1)) for index in range(count)]


def upscale(model: PerFrameModel, pixels: Sequence[Pixels]) -> list[Frame]:
    """Push all frames through one session, as many under way as it takes; their numbers are their times."""
    height, width, _ = pixels[0].shape
    session = model.open(width, height)
    results = [frame for number, each in enumerate(pixels) for frame in session.push(Frame(each, number, 1))]
    results += session.flush()
    session.close()
    return results


def one(model: PerFrameModel, pixels: Pixels) -> Pixels:
    """Upscale a single frame."""
    return next(islice(upscale(model, [pixels]), 1)).pixels


__all__ = ["EXACT", "X2", "X4", "choices", "frames", "load_choice", "named", "nothing", "one", "upscale"]
