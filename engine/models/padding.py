"""Frames made as large as a network takes them, and results cut back."""

import numpy as np

from upres.engine.core.frame import Pixels

from .manifest import Manifest


def padded(length: int, facts: Manifest) -> int:
    """Return how long a side of a frame is when it goes in."""
    return -(-(length + 2 * facts.pad) // facts.multiple) * facts.multiple


def pad(pixels: Pixels, facts: Manifest) -> Pixels:
    """Reflect a frame around itself as its network wants it; the frame itself where nothing is missing."""
    height, width, _ = pixels.shape
    tall, wide = padded(height, facts), padded(width, facts)
    if (tall, wide) == (height, width):
        return pixels
    borders = ((facts.pad, tall - height - facts.pad), (facts.pad, wide - width - facts.pad), (0, 0))
    return np.pad(pixels, borders, mode="reflect")


def unpad(result: Pixels, width: int, height: int, facts: Manifest) -> Pixels:
    """Cut out what belongs to the frame of width x height; it shares the result's memory."""
    top = facts.pad * facts.scale
    return result[top : top + height * facts.scale, top : top + width * facts.scale]
