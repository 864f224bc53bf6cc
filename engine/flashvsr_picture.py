"""What FlashVSR does to pictures outside its networks: the enlargement it starts from, and the colours it ends with."""

from functools import lru_cache

import numpy as np

from .frame import Pixels
from .runtime import Tensor

FRACTION_BITS = 22  # Pillow's fixed point: 32 bits less 8 for a sample and 2 for overshoot


def enlarge(pixels: Pixels, scale: int) -> Pixels:
    """Bicubic enlargement of (H, W, 3) uint8 by a whole factor, bit for bit as Pillow's BICUBIC: across, rounded, then down."""
    across = _resample(pixels, scale)
    return np.ascontiguousarray(_resample(across.swapaxes(0, 1), scale).swapaxes(0, 1))


def match_colour(picture: Tensor, frame: Pixels) -> Tensor:
    """Give a picture the mean and deviation of its frame, per channel (AdaIN, arXiv 1703.06868).

    picture: (3, H, W) float32 about [-1, 1]. frame: (H, W, 3) uint8. Gives (H, W, 3) float32 within [-1, 1].
    """
    matched = np.empty(frame.shape, np.float32)
    for channel in range(3):
        mean, deviation = _moments(picture[channel])
        target, spread = (value / 127.5 for value in _moments(frame[..., channel]))
        gain = ((spread**2 + 1e-5) / (deviation**2 + 1e-5)) ** 0.5
        matched[..., channel] = picture[channel] * np.float32(gain) + np.float32(target - 1 - mean * gain)
    return np.clip(matched, -1, 1, out=matched)


def to_pixels(signed: Tensor) -> Pixels:
    """[-1, 1] to uint8, truncated as the release does."""
    pixels: Pixels = ((signed + 1) * np.float32(127.5)).astype(np.uint8)
    return pixels


def _moments(values: Tensor) -> tuple[float, float]:
    """Mean and standard deviation, over the number of samples as the release does."""
    return float(np.mean(values, dtype=np.float64)), float(np.std(values, dtype=np.float64))


def _resample(pixels: Pixels, scale: int) -> Pixels:
    """Enlarge along the second axis."""
    places, weights = _taps(pixels.shape[1], scale)
    total = np.full((pixels.shape[0], len(places), 3), 1 << (FRACTION_BITS - 1), np.int32)
    for tap in range(places.shape[1]):
        total += pixels[:, places[:, tap]] * weights[:, tap, None]
    samples: Pixels = np.clip(total >> FRACTION_BITS, 0, 255).astype(np.uint8)
    return samples


@lru_cache(maxsize=8)
def _taps(size: int, scale: int) -> tuple[Tensor, Tensor]:
    """Sources and fixed-point weights of every target sample, each (size * scale, 5): cubic convolution with a = -0.5."""
    centres = (np.arange(size * scale) + 0.5) / scale
    lowest = (np.maximum(centres - 2, -0.5) + 0.5).astype(np.int64)
    highest = np.minimum((centres + 2.5).astype(np.int64), size)
    places = lowest[:, None] + np.arange(5)
    distance = np.abs(places + 0.5 - centres[:, None])
    near = 1.5 * distance**3 - 2.5 * distance**2 + 1
    far = -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
    weights = np.where(distance < 1, near, np.where(distance < 2, far, 0)) * (places < highest[:, None])
    weights /= weights.sum(1, keepdims=True)
    fixed = np.trunc(weights * (1 << FRACTION_BITS) + np.copysign(0.5, weights)).astype(np.int32)
    return np.minimum(places, size - 1), fixed
