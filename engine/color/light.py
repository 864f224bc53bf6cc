"""Mastering display and content light level of a decoded frame, read from libavutil's structures."""

import struct
from collections.abc import Sequence

from av import VideoFrame

from upres.engine.core.frame import Light

from .side_data import side_data

MASTERING = struct.Struct("=22i")  # AVMasteringDisplayMetadata: ten fractions, has_primaries, has_luminance
CONTENT = struct.Struct("=2I")  # AVContentLightMetadata
GREEN, BLUE, RED, WHITE, LEAST, MOST = 2, 4, 0, 6, 8, 9  # indices among the fractions
CHROMATICITY, LUMINANCE = 50_000, 10_000  # units of `Light` per 1, and per 1 cd/m2


def light_of(frame: VideoFrame) -> Light | None:
    """Return the mastering display and content light level in a frame's side data; None if it has neither."""
    mastering, content = (_bytes(frame, name) for name in ("MASTERING_DISPLAY_METADATA", "CONTENT_LIGHT_LEVEL"))
    primaries, luminance = _mastering(mastering) if len(mastering) >= MASTERING.size else (None, None)
    levels = CONTENT.unpack_from(content) if len(content) >= CONTENT.size else None
    light = Light(primaries, luminance, levels)
    return None if light == Light() else light


def _bytes(frame: VideoFrame, name: str) -> bytes:
    data = side_data(frame, name)
    return b"" if data is None else bytes(data)


def _mastering(data: bytes) -> tuple[tuple[int, ...] | None, tuple[int, int] | None]:
    *numbers, has_primaries, has_luminance = MASTERING.unpack_from(data)
    fractions = list(zip(numbers[::2], numbers[1::2], strict=True))
    corners = [place + axis for place in (GREEN, BLUE, RED, WHITE) for axis in (0, 1)]
    primaries = _whole([fractions[place] for place in corners], CHROMATICITY, 1 << 16) if has_primaries else None
    most = _whole([fractions[place] for place in (MOST, LEAST)], LUMINANCE, 1 << 32) if has_luminance else None
    return primaries, None if most is None else (most[0], most[1])


def _whole(fractions: Sequence[tuple[int, int]], unit: int, limit: int) -> tuple[int, ...] | None:
    """Return fractions as integers in a unit; None if one has the denominator 0 or is out of the range that files can store."""
    if any(below == 0 for _, below in fractions):
        return None
    values = tuple(round(above * unit / below) for above, below in fractions)
    return values if all(0 <= value < limit for value in values) else None
