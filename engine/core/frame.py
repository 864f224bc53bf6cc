"""Frame: pixels with a time. Color: how YUV becomes RGB. Nothing here decodes or encodes."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8 | np.uint16]

Siting = Literal["left", "center"]

FULL = 255 << 8  # white of 16 bits, as swscale makes it of video


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of a video.

    pixels: (height, width, 3), RGB, full range, upright: uint8, or uint16 with white at FULL. Or (height * 3 / 2, width), uint8:
    4:2:0 as it was decoded, the three planes one behind the other (I420), which models on a GPU may take and give.
    pts, duration: ticks of the session's time base; pts rises strictly from frame to frame.
    shot: whether a new shot starts here.
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
        """Tell whether it is in planes of 4:2:0."""
        return self.pixels.ndim == 2

    @property
    def width(self) -> int:
        """Pixels from left to right."""
        return int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        """Pixels from top to bottom."""
        return int(self.pixels.shape[0]) * 2 // 3 if self.planar else int(self.pixels.shape[0])


def planes_of(pixels: Pixels) -> tuple[Pixels, Pixels, Pixels]:
    """Return Y, U and V of a frame in planes, (height, width) and twice (height / 2, width / 2), which share its memory."""
    height, width = pixels.shape[0] * 2 // 3, pixels.shape[1]
    u, v = pixels[height:].reshape(2, height // 2, width // 2)
    return pixels[:height], u, v


@dataclass(frozen=True, slots=True)
class Color:
    """How a stream's YUV is meant, in FFmpeg's names: matrix (bt709, smpte170m, …), range (tv, pc), primaries, transfer."""

    matrix: str
    range: str
    primaries: str
    transfer: str


@dataclass(frozen=True, slots=True)
class Layout:
    """What planes of 4:2:0 mean. color: matrix and range. siting: where chroma lies across: on every second column, or between."""

    color: Color
    siting: Siting


@dataclass(frozen=True, slots=True)
class Light:
    """How bright high dynamic range was mastered, and is (SMPTE ST 2086, CTA-861.3). None: unsaid.

    primaries: x and y of green, blue, red and white, in 0.00002. luminance: of the display, most and least, in 0.0001 cd/m2.
    content: of the brightest pixel, and of the brightest frame on average, in cd/m2.
    """

    primaries: tuple[int, ...] | None = None
    luminance: tuple[int, int] | None = None
    content: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Shape:
    """What stays the same for all frames of a session.

    width, height: pixels, upright. time_base: seconds a tick. rate: frames a second, a hint only.
    sample_aspect: width over height of one pixel. bits: a channel; frames of more than 8 are uint16.
    light: of high dynamic range that is carried as it is.
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
        """Tell whether frames are uint16."""
        return self.bits > 8

    @property
    def frame_bytes(self) -> int:
        """Count the bytes of a frame's pixels."""
        return self.width * self.height * 3 * (2 if self.deep else 1)
