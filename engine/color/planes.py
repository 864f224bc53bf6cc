"""Conversion between PyAV frames and 8-bit 4:2:0 planes, for models that work on planes directly."""

import numpy as np
from av import VideoFrame
from av.video.plane import VideoPlane
from numpy.typing import NDArray

from upres.engine.core.frame import Color, Layout, Pixels, Siting, planes_of

from .convert import FromRGB, ToRGB
from .orientation import orientation

FORMATS = ("yuv420p", "yuvj420p")
SIDE = 8  # side in pixels of the frame that is used to find the chroma siting
SPOT = slice(2, 3)  # row and column of its only blue chroma sample


def layout_of(frame: VideoFrame, color: Color) -> Layout | None:
    """Return the layout of a decoded frame's planes with these colors; None if it is not upright 8-bit 4:2:0.

    Also None for chroma siting other than that of H.264 and MPEG-1, for odd sizes, and for tiny frames.
    """
    if frame.format.name not in FORMATS or frame.interlaced_frame:
        return None
    if frame.width % 2 or frame.height % 2 or min(frame.width, frame.height) <= SIDE:
        return None
    turned = orientation(frame)
    siting = None if turned.turns or turned.mirrored else _siting(frame)
    return None if siting is None else Layout(color, siting)


def _siting(frame: VideoFrame) -> Siting | None:
    """Return the chroma siting that swscale assumes for a frame, found by converting one colored sample of a small test frame.

    PyAV does not expose the siting.
    """
    probe = frame.reformat(SIDE, SIDE, "yuv420p", threads=1)
    for index, plane in enumerate(probe.planes):
        rows = np.full((plane.height, plane.line_size), 128, np.uint8)
        if index == 1:
            rows[SPOT, SPOT] = 200
        plane.update(rows.tobytes())
    blue = ToRGB(Color("bt709", "tv", "bt709", "bt709"))(probe)[..., 2]
    first = 2 * SPOT.start
    if (blue[first] != blue[first + 1]).any():  # chroma is sited on rows, not between two rows
        return None
    row = blue[first]
    if row[first] == row[first + 1] and row[first - 1] == row[first + 2]:
        return "center"
    return "left" if row[first - 1] == row[first + 1] else None


class ToPlanes:
    """Converts decoded frames to planes, (height * 3 / 2, width) uint8."""

    def __init__(self, color: Color) -> None:
        self._to_rgb, self._from_rgb = ToRGB(color), FromRGB(color, FORMATS[0])

    def __call__(self, frame: VideoFrame) -> Pixels:
        """Return the planes, one after the other.

        A frame that is not 8-bit 4:2:0, or is interlaced and thus has another chroma siting, is converted by way of RGB.
        """
        if frame.format.name not in FORMATS or frame.interlaced_frame:
            frame = self._from_rgb(self._to_rgb(frame))
        return to_planes(frame)


def to_planes(frame: VideoFrame) -> Pixels:
    """Return a copy of the planes of an 8-bit 4:2:0 frame with even sides, (height * 3 / 2, width) uint8."""
    pixels: Pixels = np.empty((frame.height * 3 // 2, frame.width), np.uint8)
    for plane, rows in zip(frame.planes, planes_of(pixels), strict=True):
        rows[:] = _rows(plane)
    return pixels


def from_planes(pixels: Pixels) -> VideoFrame:
    """Return an 8-bit 4:2:0 frame with a copy of these planes; its sides must be even."""
    frame = VideoFrame(pixels.shape[1], pixels.shape[0] * 2 // 3, "yuv420p")
    for plane, rows in zip(frame.planes, planes_of(pixels), strict=True):
        _rows(plane)[:] = rows
    return frame


def _rows(plane: VideoPlane) -> NDArray[np.uint8]:
    """Return the visible part of a plane as a view, without the padding of its lines."""
    return np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]
