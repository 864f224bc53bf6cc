"""8-bit 4:2:0 as it is decoded and encoded, for models that take and give it. Knows PyAV's frames; nothing of graphs."""

import numpy as np
from av import VideoFrame
from av.video.plane import VideoPlane
from numpy.typing import NDArray

from upres.engine.core.frame import Color, Layout, Pixels, Siting, planes_of

from .convert import FromRGB, ToRGB
from .orientation import orientation

FORMATS = ("yuv420p", "yuvj420p")
SIDE = 8  # pixels of the frame that shows where chroma lies
SPOT = slice(2, 3)  # of its chroma samples, the one that is blue


def layout_of(frame: VideoFrame, color: Color) -> Layout | None:
    """Say what the planes of a decoded frame mean, whose colors are these; None where it is no upright 8-bit 4:2:0.

    None, too, for chroma that lies elsewhere than H.264 and MPEG-1 put it, for sides that are odd, and for tiny frames.
    """
    if frame.format.name not in FORMATS or frame.interlaced_frame:
        return None
    if frame.width % 2 or frame.height % 2 or min(frame.width, frame.height) <= SIDE:
        return None
    turned = orientation(frame)
    siting = None if turned.turns or turned.mirrored else _siting(frame)
    return None if siting is None else Layout(color, siting)


def _siting(frame: VideoFrame) -> Siting | None:
    """Find where swscale takes a frame's chroma to lie, which PyAV does not say: by a spot in a small frame with the same tags."""
    probe = frame.reformat(SIDE, SIDE, "yuv420p", threads=1)
    for index, plane in enumerate(probe.planes):
        rows = np.full((plane.height, plane.line_size), 128, np.uint8)
        if index == 1:
            rows[SPOT, SPOT] = 200
        plane.update(rows.tobytes())
    blue = ToRGB(Color("bt709", "tv", "bt709", "bt709"))(probe)[..., 2]
    first = 2 * SPOT.start
    if (blue[first] != blue[first + 1]).any():  # it lies on rows, not between two
        return None
    row = blue[first]
    if row[first] == row[first + 1] and row[first - 1] == row[first + 2]:
        return "center"
    return "left" if row[first - 1] == row[first + 1] else None


class ToPlanes:
    """Takes decoded frames as planes, (height * 3 / 2, width) uint8."""

    def __init__(self, color: Color) -> None:
        self._to_rgb, self._from_rgb = ToRGB(color), FromRGB(color, FORMATS[0])

    def __call__(self, frame: VideoFrame) -> Pixels:
        """Return the planes one behind the other.

        A frame of another format than the first was, or of two fields, whose chroma lies elsewhere, goes by way of RGB.
        """
        if frame.format.name not in FORMATS or frame.interlaced_frame:
            frame = self._from_rgb(self._to_rgb(frame))
        return to_planes(frame)


def to_planes(frame: VideoFrame) -> Pixels:
    """Copy the planes of a frame of 8-bit 4:2:0 with even sides, (height * 3 / 2, width) uint8."""
    pixels: Pixels = np.empty((frame.height * 3 // 2, frame.width), np.uint8)
    for plane, rows in zip(frame.planes, planes_of(pixels), strict=True):
        rows[:] = _rows(plane)
    return pixels


def from_planes(pixels: Pixels) -> VideoFrame:
    """Return a frame of 8-bit 4:2:0 with a copy of these planes, of any even sides."""
    frame = VideoFrame(pixels.shape[1], pixels.shape[0] * 2 // 3, "yuv420p")
    for plane, rows in zip(frame.planes, planes_of(pixels), strict=True):
        _rows(plane)[:] = rows
    return frame


def _rows(plane: VideoPlane) -> NDArray[np.uint8]:
    """Show what of a plane is picture."""
    return np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]
