"""Frames cut into tiles and put together again. Knows pixels and a function that upscales them, not models or runtimes."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from upres.engine.core.frame import Pixels

TILE_LIMIT = 1024  # the longest side of what a network gets at once, halo included

Upscale = Callable[[Pixels], Pixels]


@dataclass(frozen=True, slots=True)
class Span:
    """Along one axis: [start, stop) goes into the network, [inner_start, inner_stop) is what is kept of it."""

    start: int
    stop: int
    inner_start: int
    inner_stop: int


@dataclass(frozen=True, slots=True)
class Plan:
    """Rows and columns of tiles that cover a frame; with one of each the frame goes in whole."""

    rows: tuple[Span, ...]
    columns: tuple[Span, ...]

    @property
    def largest(self) -> int:
        """Pixels of the largest tile, halo included."""
        return _longest(self.rows) * _longest(self.columns)


def plan(
    width: int, height: int, *, halo: int, multiple: int = 1, limit: int = TILE_LIMIT, pixels: int | None = None
) -> Plan:
    """Tiles of nearly equal size, none longer than `limit` a side nor larger than `pixels`, halo included.

    Cuts lie on multiples of `multiple`. Where memory asks for smaller tiles, the longer side is cut first.
    """
    halo = math.ceil(halo / multiple) * multiple
    smallest = 6 * halo + multiple  # so that no pixel lies in more than two tiles of a row
    pixels = max(pixels or limit * limit, smallest * smallest)
    columns, rows = _cut(width, halo, multiple, limit), _cut(height, halo, multiple, limit)
    while (tiles := Plan(rows, columns)).largest > pixels:
        wide, tall = _longest(columns), _longest(rows)
        if wide > tall:
            columns = _cut(width, halo, multiple, max(wide * 3 // 4, smallest))
        else:
            rows = _cut(height, halo, multiple, max(tall * 3 // 4, smallest))
    return tiles


def _longest(spans: tuple[Span, ...]) -> int:
    return max(span.stop - span.start for span in spans)


def _cut(length: int, halo: int, multiple: int, limit: int) -> tuple[Span, ...]:
    if length <= limit:
        return (Span(0, length, 0, length),)
    units = math.ceil(length / multiple)
    count = math.ceil(units / ((limit - 2 * halo) // multiple))
    cuts = [units * i // count * multiple for i in range(count)] + [length]
    return tuple(Span(max(0, a - halo), min(length, b + halo), a, b) for a, b in pairwise(cuts))


def upscale(pixels: Pixels, tiles: Plan, scale: int, run: Upscale) -> Pixels:
    """Run every tile and keep its inner part: equal to the whole frame where the network sees no further than the halo."""
    if len(tiles.rows) == len(tiles.columns) == 1:
        return run(pixels)
    height, width, channels = pixels.shape
    result = np.empty((height * scale, width * scale, channels), np.uint8)
    for row in tiles.rows:
        for column in tiles.columns:
            tile = run(pixels[row.start : row.stop, column.start : column.stop])
            top, left = (row.inner_start - row.start) * scale, (column.inner_start - column.start) * scale
            tall, wide = (row.inner_stop - row.inner_start) * scale, (column.inner_stop - column.inner_start) * scale
            into = result[
                row.inner_start * scale : row.inner_stop * scale, column.inner_start * scale : column.inner_stop * scale
            ]
            into[:] = tile[top : top + tall, left : left + wide]
    return result


def upscale_blended(pixels: Pixels, tiles: Plan, scale: int, run: Upscale) -> Pixels:
    """Run every tile and cross-fade neighbours linearly over their overlap, for networks that see beyond any halo."""
    if len(tiles.rows) == len(tiles.columns) == 1:
        return run(pixels)
    height, width, channels = pixels.shape
    result = np.zeros((height * scale, width * scale, channels), np.float32)
    for i, row in enumerate(tiles.rows):
        down = _ramp(tiles.rows, i, scale)[:, None, None]
        for j, column in enumerate(tiles.columns):
            across = _ramp(tiles.columns, j, scale)[None, :, None]
            tile = run(pixels[row.start : row.stop, column.start : column.stop])
            into = result[row.start * scale : row.stop * scale, column.start * scale : column.stop * scale]
            into += tile * (down * across)
    return np.rint(result, out=result).astype(np.uint8)


def _ramp(spans: tuple[Span, ...], index: int, scale: int) -> NDArray[np.float32]:
    """Weights along one tile: rising where it overlaps the one before, falling where the next does; neighbours sum to 1."""
    span = spans[index]
    weights = np.ones((span.stop - span.start) * scale, np.float32)
    if index and (overlap := (spans[index - 1].stop - span.start) * scale):
        weights[:overlap] *= (np.arange(overlap, dtype=np.float32) + 0.5) / overlap
    if index + 1 < len(spans) and (overlap := (span.stop - spans[index + 1].start) * scale):
        weights[-overlap:] *= 1 - (np.arange(overlap, dtype=np.float32) + 0.5) / overlap
    return weights
