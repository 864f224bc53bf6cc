"""Frames and the properties that all frames of a video share. Nothing here decodes or encodes."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8 | np.uint16]

Siting = Literal["left", "center"]

FULL = 255 << 8  # white in 16 bits, as swscale produces it from video


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of a video.

    pixels: (height, width, 3), RGB, full range, upright: uint8, or uint16 with white at FULL. Alternatively (height * 3 / 2, width)
    uint8: 4:2:0 as decoded, the three planes one after the other (I420), which models on a GPU may accept and return.
    pts, duration: ticks of the session's time base; pts increases strictly from frame to frame.
    shot: whether a new shot starts with this frame.
    """

    pixels: Pixels
    pts: int
    duration: int
    shot: bool = False

    def __post_init__(self) -> None:
        kind, shape = self.pixels.dtype, self.pixels.shape
        rgb = kind in (np.uint8, np.uint16) and len(shape) == 3 and shape[2] == 3
        if not rgb and not (kind == np.uint8 and len(shape) == 2 and shape[0] % 3 == 0 and shape[1] % 2 == 0):
            raise ValueError(
                f"pixels must be (height, width, 3) uint8 or uint16, or planes of 4:2:0, got {shape} {kind}"
            )

    @property
    def planar(self) -> bool:
        """Report whether the pixels are 4:2:0 planes."""
        return self.pixels.ndim == 2

    @property
    def width(self) -> int:
        """Width in pixels."""
        return int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        """Height in pixels."""
        return int(self.pixels.shape[0]) * 2 // 3 if self.planar else int(self.pixels.shape[0])


def planes_of(pixels: Pixels) -> tuple[Pixels, Pixels, Pixels]:
    """Return Y, U and V of a planar frame, (height, width) and twice (height / 2, width / 2), as views of its memory."""
    height, width = pixels.shape[0] * 2 // 3, pixels.shape[1]
    u, v = pixels[height:].reshape(2, height // 2, width // 2)
    return pixels[:height], u, v


@dataclass(frozen=True, slots=True)
class Color:
    """Color properties of a stream, in FFmpeg's names: matrix (bt709, smpte170m, …), range (tv, pc), primaries, transfer."""

    matrix: str
    range: str
    primaries: str
    transfer: str


@dataclass(frozen=True, slots=True)
class Layout:
    """Interpretation of 4:2:0 planes. siting: horizontal chroma position, on every second luma column or between two columns."""

    color: Color
    siting: Siting


@dataclass(frozen=True, slots=True)
class Light:
    """Mastering display and content light level of high dynamic range (SMPTE ST 2086, CTA-861.3). None: not specified.

    primaries: x and y of green, blue, red and white, in units of 0.00002.
    luminance: maximum and minimum of the mastering display, in units of 0.0001 cd/m2.
    content: light level of the brightest pixel, and average of the brightest frame, in cd/m2.
    """

    primaries: tuple[int, ...] | None = None
    luminance: tuple[int, int] | None = None
    content: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Shape:
    """Properties that are the same for all frames of a session.

    width, height: pixels, upright. time_base: seconds per tick. rate: frames per second, a hint only.
    sample_aspect: width over height of one pixel. bits: per channel; frames with more than 8 are uint16.
    light: set for high dynamic range that is passed through unchanged.
    """

    width: int
    height: int
    time_base: Fraction
    rate: Fraction
    sample_aspect: Fraction
    color: Color
    bits: int = 8
    light: Light | None = None

    @property
    def deep(self) -> bool:
        """Report whether frames are uint16."""
        return self.bits > 8

    @property
    def frame_bytes(self) -> int:
        """Size of a frame's pixels in bytes."""
        return self.width * self.height * 3 * (2 if self.deep else 1)
