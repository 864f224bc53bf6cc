"""Division of frames into tiles and reassembly. Independent of models and runtimes: it only needs a function that upscales."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np
from numpy.typing import NDArray

from upres.engine.core.frame import Pixels

TILE_LIMIT = 1024  # limit in pixels on the longer side of a tile, including its halo

Upscale = Callable[[Pixels], Pixels]


@dataclass(frozen=True, slots=True)
class Span:
    """Extent of a tile on one axis: [start, stop) enters the network, [inner_start, inner_stop) of that is kept."""

    start: int
    stop: int
    inner_start: int
    inner_stop: int

    def halved(self) -> "Span":
        """Return the same extent in units of two pixels."""
        return Span(self.start // 2, self.stop // 2, self.inner_start // 2, self.inner_stop // 2)


@dataclass(frozen=True, slots=True)
class Plan:
    """Rows and columns of equally sized tiles that cover a frame. With one of each, the tile is the whole frame."""

    rows: tuple[Span, ...]
    columns: tuple[Span, ...]

    @property
    def largest(self) -> int:
        """Pixels of a tile, including its halo."""
        return self.width * self.height

    @property
    def width(self) -> int:
        """Width of a tile in pixels, including its halo."""
        return _longest(self.columns)

    @property
    def height(self) -> int:
        """Height of a tile in pixels, including its halo."""
        return _longest(self.rows)

    @property
    def count(self) -> int:
        """Number of tiles of a frame."""
        return len(self.rows) * len(self.columns)

    def cut(self, pixels: Pixels) -> Iterator[Pixels]:
        """Cut a frame into its tiles, row by row; they share its memory."""
        return (pixels[row.start : row.stop, column.start : column.stop] for row, column in self.places())

    def places(self) -> Iterator[tuple[Span, Span]]:
        """Yield the row and column of every tile, row by row."""
        return product(self.rows, self.columns)

    def halved(self) -> "Plan":
        """Return the same tiles in units of 2x2 pixels, as for chroma planes. All cuts must be even."""
        return Plan(*(tuple(span.halved() for span in spans) for spans in (self.rows, self.columns)))


def plan(
    width: int, height: int, *, halo: int, multiple: int = 1, limit: int = TILE_LIMIT, pixels: int | None = None
) -> Plan:
    """Plan equally sized tiles, at most `limit` long on each side and `pixels` large, including the halo.

    With a single size, a runtime has to prepare or build an engine for only one shape. width, height: multiples of `multiple`, as
    are all cuts. If memory requires smaller tiles, the longer side is divided first.
    """
    halo = math.ceil(halo / multiple) * multiple
    smallest = 6 * halo + multiple  # ensures that no pixel lies in more than two tiles of a row
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
    """Distribute as few spans of equal length as the limit allows, divided at the middle of each overlap."""
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
    """Run every tile, one after another, and assemble the results. exact: as in `Assembly`."""
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
    """Upscaled frame, or one plane of it, that is assembled from its tiles.

    result: array to write into, (height, width) or (height, width, channels). exact: the network depends on nothing beyond the
    halo, so the inner part of every tile equals that of the whole frame. Otherwise neighbors are cross-faded linearly over their
    entire overlap. pad: pixels around the frame that the tiles cover but the result does not.
    """

    def __init__(self, tiles: Plan, scale: int, result: Pixels, *, exact: bool, pad: int = 0) -> None:
        self._tiles = tiles
        self._scale = scale
        self._result = result
        self._pad = pad
        self._places = tiles.places()
        self._missing = tiles.count
        self._sum = None if exact else np.zeros(result.shape, np.float32)

    @property
    def complete(self) -> bool:
        """Whether all tiles have been added."""
        return not self._missing

    def add(self, tile: Pixels) -> None:
        """Add the next upscaled tile, in the order of `Plan.cut`."""
        row, column = next(self._places)
        self._missing -= 1
        tall, wide = self._result.shape[:2]
        if self._sum is None:
            down, across = self._part(row, tall, inner=True), self._part(column, wide, inner=True)
            self._result[down.target, across.target] = tile[down.source, across.source]
            return
        down, across = self._part(row, tall), self._part(column, wide)
        weights = np.outer(
            _ramp(self._tiles.rows, row, self._scale)[down.source],
            _ramp(self._tiles.columns, column, self._scale)[across.source],
        )
        faded = tile[down.source, across.source] * weights.reshape(*weights.shape, *(1,) * (tile.ndim - 2))
        self._sum[down.target, across.target] += faded

    def finish(self) -> None:
        """Complete the result after all tiles have been added."""
        if self._sum is not None:
            self._result[:] = np.rint(self._sum, out=self._sum)

    def _part(self, span: Span, length: int, *, inner: bool = False) -> "_Part":
        """Return where a span, or its inner part, lies in the tile and in a result of this length."""
        start, stop = (span.inner_start, span.inner_stop) if inner else (span.start, span.stop)
        first, last = (max(0, (start - self._pad) * self._scale), min(length, (stop - self._pad) * self._scale))
        origin = (span.start - self._pad) * self._scale
        return _Part(slice(first, last), slice(first - origin, last - origin))


@dataclass(frozen=True, slots=True)
class _Part:
    """Position along an axis: source, in the upscaled tile; target, in the result."""

    target: slice
    source: slice


def _ramp(spans: tuple[Span, ...], span: Span, scale: int) -> NDArray[np.float32]:
    """Return a tile's weights: rising where it overlaps the previous tile, falling where the next; neighbors sum to 1."""
    index = spans.index(span)
    weights = np.ones((span.stop - span.start) * scale, np.float32)
    if index and (overlap := (spans[index - 1].stop - span.start) * scale):
        weights[:overlap] *= (np.arange(overlap, dtype=np.float32) + 0.5) / overlap
    if index + 1 < len(spans) and (overlap := (span.stop - spans[index + 1].start) * scale):
        weights[-overlap:] *= 1 - (np.arange(overlap, dtype=np.float32) + 0.5) / overlap
    return weights
