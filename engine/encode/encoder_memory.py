"""Prediction of an encoder's memory, fitted to measurements of x264, x265 and SVT-AV1 with the number of threads used here."""

from dataclasses import dataclass

from .codecs import PRESETS
from .options import Encoding, bits_of


@dataclass(frozen=True, slots=True)
class Cost:
    """Memory in bytes per pixel of the result.

    base: of the encoder itself. ahead, reference: of each frame of look-ahead, and of each reference frame.
    frames_ahead, references: numbers of these frames, by preset.
    Fitted to six presets of x264 at 1920x1080 (error at most 7 %), four of x265 (up to 20 % more for noise), and six of SVT-AV1 (up
    to 20 % more at 1280x720).
    """

    base: float
    ahead: float
    frames_ahead: dict[str, int]
    reference: float = 0.0
    references: dict[str, int] | None = None


COSTS = {
    "libx264": Cost(
        33,
        3.6,
        dict(zip(PRESETS, (0, 0, 10, 20, 30, 40, 50, 60, 60), strict=True)),
        4.5,
        dict(zip(PRESETS, (0, 0, 0, 1, 1, 2, 4, 7, 15), strict=True)),
    ),
    "libx264rgb": Cost(70, 0.0, dict.fromkeys(PRESETS, 0)),  # at a constant quantizer it does not look ahead
    "libsvtav1": Cost(
        *(100, 0.0, dict.fromkeys(PRESETS, 0), 12),
        dict(zip(PRESETS, (0, 0, 0, 1, 2, 8, 9, 11, 13), strict=True)),
    ),
    # All others: 1.5 times the value measured at the preset `fast`.
    "libvpx-vp9": Cost(120, 0.0, dict.fromkeys(PRESETS, 0)),
    "prores_ks": Cost(40, 0.0, dict.fromkeys(PRESETS, 0)),
    "ffv1": Cost(100, 0.0, dict.fromkeys(PRESETS, 0)),
    "h264_nvenc": Cost(20, 0.0, dict.fromkeys(PRESETS, 0)),  # on the host; assumed, no GPU was measured
    "hevc_nvenc": Cost(20, 0.0, dict.fromkeys(PRESETS, 0)),
    "libx265": Cost(85, 5.2, dict(zip(PRESETS, (5, 10, 15, 15, 15, 20, 25, 40, 40), strict=True))),
}
FULL_CHROMA = 1.6  # factor for 4:4:4
DEEP = 1.7  # factor for more than 8 bits per channel, for encoders whose samples then have two bytes
SAMPLES_OF_16_BITS = ("libx264", "libx265", "libsvtav1")


def encoder_memory(encoding: Encoding, frames: int | None = None) -> int:
    """Predict an encoder's peak memory in bytes. frames: maximum number of frames that it encodes."""
    cost, encoder = COSTS[encoding.library], encoding.encoder
    ahead = 0 if encoder.prompt else cost.frames_ahead[encoder.preset]
    references = 0 if cost.references is None else cost.references[encoder.preset]
    a_pixel = cost.base + cost.ahead * (ahead if frames is None else min(ahead, frames)) + cost.reference * references
    chroma = FULL_CHROMA if encoding.pixel_format.startswith(("yuv444p", "gbrp")) else 1.0
    depth = DEEP if bits_of(encoding.pixel_format) > 8 and encoding.library in SAMPLES_OF_16_BITS else 1.0
    return int(a_pixel * chroma * depth * encoding.width * encoding.height)
