"""Frames made as large as a network takes them, in the tiles that fit, and results cut back."""

import math

import numpy as np

from upres.engine.core.frame import Pixels

from .manifest import Manifest
from .tiling import TILE_LIMIT, Plan, plan

CHROMA_REACH = (
    6  # pixels that colors reach around the halo, even: three as they go in, three upscaled ones as they come out
)


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


def cut(facts: Manifest, width: int, height: int, limit: int, *, on_device: bool) -> Plan:
    """Plan the tiles of a frame for a network. limit: of a tile's longest side. on_device: the network runs on a GPU."""
    return cut_padded(facts, padded(width, facts), padded(height, facts), limit, on_device=on_device)


def cut_padded(
    facts: Manifest, width: int, height: int, limit: int, *, on_device: bool, pixels: int | None = None
) -> Plan:
    """Plan the tiles of what goes into a network, as `cut` does of a frame. pixels: of a tile, by default limit squared.

    On a GPU one plan, and so one engine, serves frames in RGB and in planes: where sides are even, so are all cuts, and tiles
    share what colors reach around the network's halo.
    """
    halo, multiple = facts.halo, facts.multiple
    if on_device and width % 2 == height % 2 == 0:
        halo, multiple = halo + CHROMA_REACH, math.lcm(multiple, 2)
    return plan(width, height, halo=halo, multiple=multiple, limit=limit, pixels=pixels)


def size_to_build_for(facts: Manifest, width: int, height: int, tiles: Plan) -> tuple[int, int]:
    """Give the size of frames that engines of these tiles, which cover frames of width x height, are built for.

    That is theirs, unless memory or a choice made the tiles others than usual: then a frame of such a tile.
    """
    if tiles == cut(facts, width, height, TILE_LIMIT, on_device=True):
        return width, height
    return tiles.width - 2 * facts.pad, tiles.height - 2 * facts.pad
