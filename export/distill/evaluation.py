"""Comparison of a student, and of plain interpolation, with the teacher on held-out media."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from upres.engine.core.frame import Pixels

from . import video
from .patches import Teacher
from .sources import Media

CRF = 23
FRACTIONS = (0.2, 0.5, 0.8)
"""Positions of the frames in a clip."""
METHODS = ("BICUBIC", "LANCZOS")
LUMA = np.array([0.2126, 0.7152, 0.0722], np.float32)


@dataclass(frozen=True, slots=True)
class Measure:
    """psnr: to the teacher, in dB. gradients: ratio of the mean absolute gradient of the luma to that of the teacher."""

    psnr: float
    gradients: float


def held_out(folder: Path, media: Mapping[str, Media]) -> dict[str, list[Pixels]]:
    """Read the frames of every held-out file at its width, after compression with H.264."""
    return {name: _frames(folder / name, one) for name, one in media.items()}


def measure(
    frames: Mapping[str, list[Pixels]], teacher: Teacher, others: Mapping[str, Callable[[Pixels], Pixels]]
) -> dict[str, dict[str, Measure]]:
    """Compare each upscaling method with the teacher; returns measures by file, then by method, as means over a file's frames."""
    methods = {**{method.lower(): _interpolated(method, teacher.scale) for method in METHODS}, **others}
    results: dict[str, dict[str, Measure]] = {}
    for name, clip in frames.items():
        targets = [teacher(frame) for frame in clip]
        results[name] = {
            method_name: _mean([compare(run(frame), target) for frame, target in zip(clip, targets, strict=True)])
            for method_name, run in methods.items()
        }
    return results


def compare(upscaled: Pixels, target: Pixels) -> Measure:
    """Compare two frames of equal size."""
    error = float(np.mean((upscaled.astype(np.float32) - target) ** 2))
    psnr = 10 * float(np.log10(255**2 / max(error, 1e-10)))
    return Measure(psnr, _gradients(upscaled) / max(_gradients(target), 1e-6))


def means(results: Mapping[str, Mapping[str, Measure]]) -> dict[str, Measure]:
    """Return the means over all files, by method."""
    methods = list(next(iter(results.values())))
    return {name: _mean([measures[name] for measures in results.values()]) for name in methods}


def _frames(path: Path, media: Media) -> list[Pixels]:
    length = video.seconds(path)
    if not length:
        (picture,) = video.frames(path)
        return [_compressed([picture], media)]
    clips = [video.frames(path, start=fraction * length, count=3) for fraction in FRACTIONS]
    return [_compressed(clip, media) for clip in clips]


def _compressed(clip: list[Pixels], media: Media) -> Pixels:
    height, width, _ = clip[0].shape
    wide = media.width or width
    tall = round(height * wide / width) // 2 * 2
    smaller = [frame if wide == width else video.resize(frame, wide, tall, "AREA") for frame in clip]
    return video.compressed(smaller, CRF)[-1]


def _interpolated(method: str, scale: int) -> Callable[[Pixels], Pixels]:
    return lambda pixels: video.resize(pixels, pixels.shape[1] * scale, pixels.shape[0] * scale, method)


def _gradients(pixels: Pixels) -> float:
    luma: NDArray[np.float32] = pixels.astype(np.float32) @ LUMA
    return float(np.abs(np.diff(luma, axis=0)).mean() + np.abs(np.diff(luma, axis=1)).mean())


def _mean(measures: list[Measure]) -> Measure:
    return Measure(float(np.mean([one.psnr for one in measures])), float(np.mean([one.gradients for one in measures])))
