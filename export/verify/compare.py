"""Comparison of a graph with its reference on real frames, before any file is written."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import log10
from pathlib import Path

import av
import numpy as np

from upres.engine.core.errors import ModelError
from upres.engine.core.frame import Pixels
from upres.export.families.layers import halve

from .reference import Reference

FRAMES = Path(__file__).parent / "frames.mp4"
"""Frames of Big Buck Bunny, (c) 2008 Blender Foundation, CC BY 3.0, downscaled."""
MAX_DIFFERENCE = 1
MIN_PSNR = 85.0


@dataclass(frozen=True, slots=True)
class Agreement:
    """Difference of a graph from its reference on uint8 RGB. reference: its name. psnr: in dB, None if they are identical."""

    reference: str
    max_difference: int
    psnr: float | None


def verify(
    graph: bytes, reference: Reference, *, scale: int, pad: int, frames: Iterable[Pixels] | None = None
) -> Agreement:
    """Run graph and reference on every frame, padded and cropped as in the engine, and compare all pixels.

    frames: (height, width, 3) uint8, RGB; by default those of FRAMES. The result of a reference with twice the scale is halved
    bicubically. Raises ModelError if the graph differs by more than 1 level or the PSNR is below 85 dB; differences caused by
    rounding and summation order alone stay within both limits.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    worst, squares, count = 0, 0.0, 0
    for frame in read_frames(FRAMES) if frames is None else frames:
        padded = np.pad(frame, ((pad, pad), (pad, pad), (0, 0)), "reflect")
        upscaled = session.run(None, {"frame": padded[None]})[0][0]
        difference = _crop(upscaled, pad * scale).astype(int) - _crop(_expected(padded, reference, scale), pad * scale)
        worst = max(worst, int(abs(difference).max()))
        squares += float((difference**2).sum())
        count += difference.size
    psnr = 10 * log10(255**2 * count / squares) if squares else None
    if worst > MAX_DIFFERENCE or (psnr is not None and psnr < MIN_PSNR):
        raise ModelError(
            f"the graph does not agree with {reference.name}: difference {worst} (at most {MAX_DIFFERENCE}), "
            f"{psnr:.1f} dB (at least {MIN_PSNR:.0f}); nothing was written"
        )
    return Agreement(reference.name, worst, psnr if psnr is None else round(psnr, 2))


def read_frames(path: Path) -> Iterator[Pixels]:
    """Decode all frames of a clip to (height, width, 3) uint8, RGB."""
    with av.open(str(path)) as clip:
        for frame in clip.decode(video=0):
            yield frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)


def _expected(frame: Pixels, reference: Reference, scale: int) -> Pixels:
    planes = reference.run(frame.transpose(2, 0, 1).astype(np.float32) / np.float32(255))
    if planes.shape[1] == 2 * scale * frame.shape[0]:
        planes = halve(planes)
    levels: Pixels = np.rint(np.clip(planes * 255, 0, 255)).astype(np.uint8).transpose(1, 2, 0)
    return levels


def _crop(pixels: Pixels, edge: int) -> Pixels:
    return pixels[edge : pixels.shape[0] - edge, edge : pixels.shape[1] - edge]
