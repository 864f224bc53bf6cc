"""Orientation of frames: rotation and mirroring, according to the display matrix that cameras write."""

import struct
from dataclasses import dataclass

import numpy as np
from av import VideoFrame
from av.buffer import Buffer

from upres.engine.core.frame import Pixels

from .side_data import side_data

MATRIX = struct.Struct("<9i")  # libavutil's display matrix: a b u, c d v, x y w; x' = ax + cy, y' = bx + dy


@dataclass(frozen=True, slots=True)
class Orientation:
    """Transformation to the upright position. turns: quarter turns counterclockwise. mirrored: whether to flip it after that."""

    turns: int = 0
    mirrored: bool = False

    @property
    def lying(self) -> bool:
        """Report whether width and height are exchanged."""
        return self.turns % 2 == 1

    def upright(self, pixels: Pixels) -> Pixels:
        """Return the pixels in upright position, as a view."""
        turned = np.rot90(pixels, self.turns)
        return turned[:, ::-1] if self.mirrored else turned


def orientation(frame: VideoFrame) -> Orientation:
    """Return the orientation of a decoded frame, to the nearest quarter turn."""
    data = side_data(frame, "DISPLAYMATRIX")
    if not isinstance(data, Buffer):
        return Orientation(round(frame.rotation / 90) % 4)  # PyAV provides this even if the frame also has EXIF
    a, b, _, c, d, *_ = MATRIX.unpack(bytes(data))
    lying = abs(b) + abs(c) > abs(a) + abs(d)
    if a * d - b * c < 0:
        return Orientation(3 if b > 0 else 1, True) if lying else Orientation(0 if a < 0 else 2, True)
    return Orientation(3 if b > 0 else 1) if lying else Orientation(2 if a < 0 else 0)
