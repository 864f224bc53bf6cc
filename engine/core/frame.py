"""Frame: pixels with a time. Color: how YUV becomes RGB. Nothing here decodes or encodes."""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of a video.

    pixels: (height, width, 3) uint8, RGB, full range, upright.
    pts, duration: ticks of the session's time base; pts rises strictly from frame to frame.
    shot: whether a new shot starts here.
    """

    pixels: Pixels
    pts: int
    duration: int
    shot: bool = False

    def __post_init__(self) -> None:
        if self.pixels.dtype != np.uint8 or self.pixels.ndim != 3 or self.pixels.shape[2] != 3:
            raise ValueError(f"pixels must be (height, width, 3) uint8, got {self.pixels.shape} {self.pixels.dtype}")

    @property
    def width(self) -> int:
        """Pixels from left to right."""
        return int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        """Pixels from top to bottom."""
        return int(self.pixels.shape[0])


@dataclass(frozen=True, slots=True)
class Color:
    """How a stream's YUV is meant, in FFmpeg's names: matrix (bt709, smpte170m, …), range (tv, pc), primaries, transfer."""

    matrix: str
    range: str
    primaries: str
    transfer: str


@dataclass(frozen=True, slots=True)
class Shape:
    """What stays the same for all frames of a session.

    width, height: pixels, upright. time_base: seconds a tick. rate: frames a second, a hint only.
    sample_aspect: width over height of one pixel.
    """

    width: int
    height: int
    time_base: Fraction
    rate: Fraction
    sample_aspect: Fraction
    color: Color
