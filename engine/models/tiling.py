"""Frames cut into tiles and put together again. Knows pixels and a function that upscales them, not models or runtimes."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise, product

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

    def halved(self) -> "Span":
        """Give the same in pixels twice as long."""
        return Span(self.start // 2, self.stop // 2, self.inner_start // 2, self.inner_stop // 2)


@dataclass(frozen=True, slots=True)
class Plan:
    """Rows and columns of tiles of one size that cover a frame; with one of each the frame goes in whole."""

    rows: tuple[Span, ...]
    columns: tuple[Span, ...]

    @property
    def largest(self) -> int:
        """Pixels of a tile, halo included."""
        return self.width * self.height

    @property
    def width(self) -> int:
        """Pixels across a tile, halo included."""
        return _longest(self.columns)

    @property
    def height(self) -> int:
        """Pixels down a tile, halo included."""
        return _longest(self.rows)

    @property
    def count(self) -> int:
        """Tiles of a frame."""
        return len(self.rows) * len(self.columns)

    def cut(self, pixels: Pixels) -> Iterator[Pixels]:
        """Cut a frame into its tiles, row by row; they share its memory."""
        return (pixels[row.start : row.stop, column.start : column.stop] for row, column in self.places())

    def places(self) -> Iterator[tuple[Span, Span]]:
        """Yield the row and the column of every tile, row by row."""
        return product(self.rows, self.columns)

    def halved(self) -> "Plan":
        """Give the same tiles in pixels twice as wide and high, as those of chroma; all cuts are even."""
        return Plan(*(tuple(span.halved() for span in spans) for spans in (self.rows, self.columns)))


def plan(
    width: int, height: int, *, halo: int, multiple: int = 1, limit: int = TILE_LIMIT, pixels: int | None = None
) -> Plan:
    """Plan tiles of one size, not longer than `limit` a side nor larger than `pixels`, halo included.

    One size is one shape for a runtime to search for, or to build an engine for. width, height: multiples of `multiple`, as are
    all cuts. Where memory asks for smaller tiles, the longer side is cut first.
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
    """Spread as few spans of one length as the limit allows, cut apart in the middle of what two of them share."""
    if length <= limit:
        return (Span(0, length, 0, length),)
    units, margin = length // multiple, halo // multiple
    count = math.ceil((units - 2 * margin) / (limit // multiple - 2 * margin))
    size = math.ceil((units + (count - 1) * 2 * margin) / count)
    starts = [(units - size) * i // (count - 1) * multiple for i in range(count)]
    size *= multiple
    cuts = [0, *((a + size + b) // (2 * multiple) * multiple for a, b in pairwise(starts)), length]
    return tuple(Span(start, start + size, a, b) for start, (a, b) in zip(starts, pairwise(cuts), strict=True))


def upscale(pixels: Pixels, tiles: Plan, scale: int, run: Upscale, *, exact: bool = True) -> Pixels:
    """Run every tile, one after the other, and put the results together. exact: as in `Assembly`."""
    if tiles.count == 1:
        return run(pixels)
    height, width, channels = pixels.shape
    result = np.empty((height * scale, width * scale, channels), pixels.dtype)
    assembly = Assembly(tiles, scale, result, exact=exact)
    for tile in tiles.cut(pixels):
        assembly.add(run(tile))
    assembly.finish()
    return result


class Assembly:
    """An upscaled frame, or a plane of one, that is put together from its tiles.

    result: (height, width) or (height, width, channels), is written into. exact: the network sees no further than the halo, so
    that the inner part of every tile is what the whole frame would give; otherwise neighbours are cross-faded linearly over all
    that they share. pad: pixels around the frame that the tiles cover and the result leaves out.
    """

    def __init__(self, tiles: Plan, scale: int, result: Pixels, *, exact: bool, pad: int = 0) -> None:
        self._tiles = tiles
        self._scale = scale
        self._result = result
        self._pad = pad
        self._places = tiles.places()
        self._left = tiles.count
        self._sum = None if exact else np.zeros(result.shape, np.float32)

    @property
    def complete(self) -> bool:
        """Tell whether every tile is in."""
        return not self._left

    def add(self, tile: Pixels) -> None:
        """Copy the next tile in, in the order of `Plan.cut`; it is upscaled."""
        row, column = next(self._places)
        self._left -= 1
        tall, wide = self._result.shape[:2]
        if self._sum is None:
            down, across = self._part(row, tall, inner=True), self._part(column, wide, inner=True)
            self._result[down.there, across.there] = tile[down.here, across.here]
            return
        down, across = self._part(row, tall), self._part(column, wide)
        weights = np.outer(
            _ramp(self._tiles.rows, row, self._scale)[down.here],
            _ramp(self._tiles.columns, column, self._scale)[across.here],
        )
        faded = tile[down.here, across.here] * weights.reshape(*weights.shape, *(1,) * (tile.ndim - 2))
        self._sum[down.there, across.there] += faded

    def finish(self) -> None:
        """Complete the result, once every tile is in."""
        if self._sum is not None:
            self._result[:] = np.rint(self._sum, out=self._sum)

    def _part(self, span: Span, length: int, *, inner: bool = False) -> "_Part":
        """Say which part of a span is in a result of this length, or of what is kept of it."""
        start, stop = (span.inner_start, span.inner_stop) if inner else (span.start, span.stop)
        first, last = (max(0, (start - self._pad) * self._scale), min(length, (stop - self._pad) * self._scale))
        origin = (span.start - self._pad) * self._scale
        return _Part(slice(first, last), slice(first - origin, last - origin))


@dataclass(frozen=True, slots=True)
class _Part:
    """Where something lies along an axis: there, in the result; here, in its tile."""

    there: slice
    here: slice


def _ramp(spans: tuple[Span, ...], span: Span, scale: int) -> NDArray[np.float32]:
    """Weights along one tile: rising where it overlaps the one before, falling where the next does; neighbours sum to 1."""
    index = spans.index(span)
    weights = np.ones((span.stop - span.start) * scale, np.float32)
    if index and (overlap := (spans[index - 1].stop - span.start) * scale):
        weights[:overlap] *= (np.arange(overlap, dtype=np.float32) + 0.5) / overlap
    if index + 1 < len(spans) and (overlap := (span.stop - spans[index + 1].start) * scale):
        weights[-overlap:] *= 1 - (np.arange(overlap, dtype=np.float32) + 0.5) / overlap
    return weights
