"""Processing of frames outside FlashVSR's networks: bicubic upscaling before them, color matching to the source after them."""

from functools import lru_cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from upres.engine.core.frame import Pixels
from upres.engine.runtime.base import Tensor

TAPS = 5  # source samples, along one axis, that the upscaled samples in place of one of them depend on
FRACTION = 2.0**-22  # precision of a weight in Pillow's fixed point: 32 bits less 8 for a sample and 2 for overshoot
ROWS = 8  # source rows upscaled at a time, so that they stay in the cache


def upscale(pixels: Pixels, scale: int) -> Pixels:
    """Upscale (H, W, 3) uint8 by an integer factor, bit for bit as Pillow's BICUBIC: horizontally, rounded, then vertically."""
    across = _resample(pixels.swapaxes(0, 1), scale)
    return _resample(across.swapaxes(0, 1), scale)


def match_color(decoded: Tensor, frame: Pixels) -> Tensor:
    """Adjust a decoded frame to the per-channel mean and standard deviation of its source (AdaIN, arXiv 1703.06868).

    decoded: (3, H, W) float32, roughly within [-1, 1]. frame: (H, W, 3) uint8. Returns (H, W, 3) float32 within [-1, 1].
    """
    matched = np.empty(frame.shape, np.float32)
    means, variances = _moments(frame)
    for channel, plane in enumerate(decoded):
        centered = plane - np.float32(plane.mean(1).mean(dtype=np.float64))
        variance = np.einsum("hw,hw->h", centered, centered).sum(dtype=np.float64) / centered.size
        centered *= np.float32(((variances[channel] + 1e-5) / (variance + 1e-5)) ** 0.5)
        centered += np.float32(means[channel])
        matched[..., channel] = centered
    return np.clip(matched, -1, 1, out=matched)


def to_pixels(signed: Tensor) -> Pixels:
    """Convert [-1, 1] to uint8, truncating as the original release does."""
    pixels: Pixels = ((signed + 1) * np.float32(127.5)).astype(np.uint8)
    return pixels


def _moments(frame: Pixels) -> tuple[Tensor, Tensor]:
    """Return each channel's mean and (population, as in the original release) variance, scaled to the range [-1, 1]."""
    height, width, _ = frame.shape
    samples = frame.reshape(height, -1).astype(np.float32)
    means = samples.sum(0).reshape(width, 3).mean(0, dtype=np.float64) / height  # sums of integers are exact
    samples -= np.tile(means.astype(np.float32), width)
    variances = np.einsum("hw,hw->w", samples, samples).reshape(width, 3).mean(0, dtype=np.float64) / height
    return means / 127.5 - 1, variances / 127.5**2


def _resample(pixels: Pixels, scale: int) -> Pixels:
    """Upscale along the first axis. All sums are multiples of FRACTION that float64 represents exactly, so order is irrelevant."""
    height, width, channels = pixels.shape
    weights, edge = _weights(height, scale), TAPS // 2
    padded = np.pad(pixels.reshape(height, -1), ((edge, edge), (0, 0)))
    large = np.empty((height, scale, width * channels), np.uint8)
    for top in range(0, height, ROWS):
        rows = slice(top, min(top + ROWS, height))
        samples = padded[rows.start : rows.stop + 2 * edge].astype(np.float64)
        sums = weights[rows] @ sliding_window_view(samples, TAPS, 0).swapaxes(1, 2)
        sums += 0.5
        large[rows] = np.clip(sums, 0, 255, out=sums)
    return large.reshape(height * scale, width, channels)


@lru_cache(maxsize=8)
def _weights(size: int, scale: int) -> Tensor:
    """Return the weights of the samples around each sample, (size, scale, 5) float64: cubic convolution with a = -0.5."""
    places = np.arange(size)[:, None, None] + np.arange(TAPS) - TAPS // 2
    centers = (np.arange(size * scale).reshape(size, scale, 1) + 0.5) / scale
    distance = np.abs(places + 0.5 - centers)
    near = 1.5 * distance**3 - 2.5 * distance**2 + 1
    far = -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
    weights = np.where(distance < 1, near, np.where(distance < 2, far, 0)) * ((places >= 0) & (places < size))
    weights /= weights.sum(-1, keepdims=True)
    fixed: Tensor = np.trunc(weights / FRACTION + np.copysign(0.5, weights)) * FRACTION
    return fixed
