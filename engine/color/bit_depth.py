"""Conversion of 16 to 8 bits per channel, dithered to avoid banding, and tone mapping of high dynamic range to BT.709.

PQ: SMPTE ST 2084. HLG on a display of 1000 cd/m2: ITU-R BT.2100-2, table 5. Diffuse white at 203 cd/m2: ITU-R BT.2408-7.
Primaries: ITU-R BT.2087-0. Display gamma: ITU-R BT.1886. High dynamic range is assumed to have BT.2020 primaries, regardless of its
tags, and mastering metadata is not used.
"""

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

from upres.engine.core.frame import FULL, Pixels

Deep = NDArray[np.uint16]
Light = NDArray[np.float32]

WHITE = 203.0  # cd/m2 of diffuse white, which becomes 1.0 before compression
KNEE = 0.5  # light below is unchanged; light above is compressed so that 10000 cd/m2 become 1.0
PEAK = (10_000 / WHITE - KNEE) / (1 - KNEE)
HLG_PEAK = 1000.0
TO_BT709 = np.array(
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32
)  # from the primaries of BT.2020, in linear light
LUMINANCE = np.array([0.2627, 0.6780, 0.0593], np.float32)  # of BT.2020's primaries
ROWS = 64  # processed at a time, to keep temporary memory small


def shallow(pixels: Deep) -> Pixels:
    """Convert (height, width, 3) uint16, white at FULL, to uint8 by ordered dithering, which keeps the mean over 8x8 pixels."""
    result = np.empty(pixels.shape, np.uint8)
    for top in range(0, len(pixels), ROWS):
        strip = np.minimum(pixels[top : top + ROWS], FULL)
        result[top : top + ROWS] = (strip + _thresholds(*strip.shape[:2])) >> 8
    return result


def leveled(pixels: Deep, white: int) -> Deep:
    """Scale (height, width, 3) uint16 with this white to white at FULL; return the same array if it is FULL already."""
    return pixels if white == FULL else ((pixels.astype(np.uint32) * FULL + white // 2) // white).astype(np.uint16)


def tonemapped(pixels: Deep, transfer: str) -> Deep:
    """Tone-map (height, width, 3) uint16 from BT.2020 in PQ (smpte2084) or HLG (arib-std-b67) to BT.709, uint16, white at FULL."""
    light_of: Callable[[Deep], Light] = _pq if transfer == "smpte2084" else _hlg
    result = np.empty_like(pixels)
    for top in range(0, len(pixels), ROWS):
        light = np.maximum(_compressed(light_of(pixels[top : top + ROWS]) / WHITE) @ TO_BT709.T, 0)
        result[top : top + ROWS] = np.rint(np.minimum(light, 1) ** (1 / 2.4) * FULL)
    return result


def _compressed(light: Light) -> Light:
    """Compress highlights above the knee (extended Reinhard), by the brightest channel to preserve hue."""
    brightest = np.maximum(light.max(axis=2, keepdims=True), 1e-6)
    above = np.maximum(brightest - KNEE, 0) / (1 - KNEE)
    rolled = KNEE + (1 - KNEE) * above * (1 + above / PEAK**2) / (1 + above)
    return np.where(brightest > KNEE, light * (rolled / brightest), light)


def _codes() -> NDArray[np.float64]:
    return np.minimum(np.arange(65536) / FULL, 1)


@cache
def _pq_table() -> Light:
    power = _codes() ** (32 / 2523)
    light = 10_000 * (np.maximum(power - 0.8359375, 0) / (18.8515625 - 18.6875 * power)) ** (16384 / 2610)
    return light.astype(np.float32)


def _pq(codes: Deep) -> Light:
    return _pq_table()[codes]


@cache
def _hlg_table() -> Light:
    codes = _codes()
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(codes <= 0.5, codes**2 / 3, (np.exp((codes - c) / a) + b) / 12).astype(np.float32)


def _hlg(codes: Deep) -> Light:
    scene = _hlg_table()[codes]
    luminance = np.maximum(scene @ LUMINANCE, 1e-6)[..., None]
    light: Light = HLG_PEAK * luminance**0.2 * scene  # 0.2: the system gamma of 1.2, less 1
    return light


@cache
def _bayer() -> Deep:
    """Return the thresholds, 0..255, of an 8x8 ordered dither (Bayer, 1973)."""
    pattern = np.zeros((1, 1))
    for _ in range(3):
        pattern = np.block([[4 * pattern, 4 * pattern + 2], [4 * pattern + 3, 4 * pattern + 1]])
    return (pattern * 4 + 2).astype(np.uint16)


def _thresholds(height: int, width: int) -> Deep:
    return np.tile(_bayer(), (-(-height // 8), -(-width // 8)))[:height, :width, None]
