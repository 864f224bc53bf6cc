"""Decoding of frames from clips and pictures, resizing, and degradation: blur, noise, compression."""

import io
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from upres.engine.color.convert import as_frame
from upres.engine.core.frame import Pixels


def frames(path: Path, *, start: float = 0.0, count: int = 1) -> list[Pixels]:
    """Decode `count` frames from `start` seconds on, (height, width, 3) uint8 RGB; fewer for a picture or at a clip's end."""
    with av.open(path) as container:
        stream = container.streams.video[0]
        if start:
            container.seek(int(start / (stream.time_base or Fraction(1))), stream=stream)
        decoded: list[Pixels] = []
        for frame in container.decode(stream):
            if start and (frame.time or 0.0) < start:
                continue
            decoded.append(np.asarray(frame.to_ndarray(format="rgb24"), np.uint8))
            if len(decoded) == count:
                break
    return decoded


def seconds(path: Path) -> float:
    """Return the duration of a clip in seconds; 0 for a picture."""
    with av.open(path) as container:
        return (container.duration or 0) / av.time_base if container.format.name not in _PICTURES else 0.0


_PICTURES = ("png_pipe", "jpeg_pipe", "image2")


def resize(pixels: Pixels, width: int, height: int, method: str) -> Pixels:
    """Resize with swscale. method: AREA, BICUBIC, LANCZOS, …"""
    frame = as_frame(pixels)
    options = av.video.reformatter.Interpolation[method]
    resized = frame.reformat(width=width, height=height, interpolation=options)
    return np.asarray(resized.to_ndarray(), np.uint8)


def blurred(pixels: Pixels, sigma: float) -> Pixels:
    """Apply a Gaussian blur with repeated edges."""
    reach = max(1, round(3 * sigma))
    taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    taps /= taps.sum()
    x = pixels.astype(np.float32)
    for axis in (0, 1):
        edged = np.pad(x, [(reach, reach) if axis == other else (0, 0) for other in range(3)], "edge")
        x = sum(
            (np.float32(tap) * np.take(edged, np.arange(x.shape[axis]) + at, axis) for at, tap in enumerate(taps)),
            np.zeros_like(x),
        )
    return _levels(x)


def noisy(pixels: Pixels, sigma: float, rng: np.random.Generator) -> Pixels:
    """Add Gaussian noise. sigma: standard deviation in 8-bit levels."""
    return _levels(pixels.astype(np.float32) + rng.normal(0, sigma, pixels.shape).astype(np.float32))


def compressed(clip: Sequence[Pixels], crf: int, *, preset: str = "veryfast") -> list[Pixels]:
    """Encode frames, of equal and even size, as H.264 and decode them."""
    file = io.BytesIO()
    height, width, _ = clip[0].shape
    with av.open(file, "w", format="matroska") as container:
        # One thread, so that the bytes are the same on every machine.
        options = {"crf": str(crf), "preset": preset, "threads": "1"}
        stream = container.add_stream("libx264", rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for pixels in clip:
            container.mux(stream.encode(as_frame(pixels)))
        container.mux(stream.encode())
    file.seek(0)
    with av.open(file, "r") as container:
        return [np.asarray(frame.to_ndarray(format="rgb24"), np.uint8) for frame in container.decode(video=0)]


def windows(pixels: Pixels, count: int, step: tuple[int, int], width: int, height: int) -> Iterator[Pixels]:
    """Yield a clip that pans over a picture by `step` (down, right) pixels per frame."""
    down, right = pixels.shape[0] - height, pixels.shape[1] - width
    for index in range(count):
        top, left = min(down, max(0, index * step[0])), min(right, max(0, index * step[1]))
        yield pixels[top : top + height, left : left + width]


def _levels(x: NDArray[np.float32]) -> Pixels:
    return np.asarray(np.clip(np.rint(x), 0, 255), np.uint8)
