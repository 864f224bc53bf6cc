"""Padding of frames to sizes that a network accepts and that tiles divide, and cropping of the results."""

import math

import numpy as np

from upres.engine.core.frame import Pixels

from .manifest import Manifest
from .tiling import TILE_LIMIT, Plan, plan

CHROMA_REACH = 6  # pixels around the halo that chroma depends on, even: three on input, three upscaled ones on output


def padded(length: int, facts: Manifest) -> int:
    """Return the length of a frame's side after padding."""
    return -(-(length + 2 * facts.pad) // facts.multiple) * facts.multiple


def pad(pixels: Pixels, facts: Manifest) -> Pixels:
    """Extend a frame by reflection to the size that its network requires; return the frame itself if it has that size."""
    height, width, _ = pixels.shape
    tall, wide = padded(height, facts), padded(width, facts)
    if (tall, wide) == (height, width):
        return pixels
    borders = ((facts.pad, tall - height - facts.pad), (facts.pad, wide - width - facts.pad), (0, 0))
    return np.pad(pixels, borders, mode="reflect")


def unpad(result: Pixels, width: int, height: int, facts: Manifest) -> Pixels:
    """Crop the result to the part that belongs to the frame of width x height; the returned array shares its memory."""
    top = facts.pad * facts.scale
    return result[top : top + height * facts.scale, top : top + width * facts.scale]


def cut(facts: Manifest, width: int, height: int, limit: int, *, on_device: bool) -> Plan:
    """Plan the tiles of a frame for a network. limit: of a tile's longer side. on_device: whether it runs on a GPU."""
    return cut_padded(facts, padded(width, facts), padded(height, facts), limit, on_device=on_device)


def cut_padded(
    facts: Manifest, width: int, height: int, limit: int, *, on_device: bool, pixels: int | None = None
) -> Plan:
    """Plan the tiles of a padded frame, like `cut` for an unpadded one. pixels: limit per tile, by default limit squared.

    On a GPU the same plan, and therefore the same engine, serves RGB and planar frames: if the sides are even, so are all cuts,
    and neighboring tiles also share the pixels around the network's halo that chroma depends on.
    """
    halo, multiple = facts.halo, facts.multiple
    if on_device and width % 2 == height % 2 == 0:
        halo, multiple = halo + CHROMA_REACH, math.lcm(multiple, 2)
    return plan(width, height, halo=halo, multiple=multiple, limit=limit, pixels=pixels)


def size_to_build_for(facts: Manifest, width: int, height: int, tiles: Plan) -> tuple[int, int]:
    """Return the frame size for which to build engines for these tiles, which cover frames of width x height.

    It is that size, unless low memory or an option changed the size of the tiles; then it is that of a frame with one such tile.
    """
    if tiles == cut(facts, width, height, TILE_LIMIT, on_device=True):
        return width, height
    return tiles.width - 2 * facts.pad, tiles.height - 2 * facts.pad
