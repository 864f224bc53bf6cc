"""Detection of areas that did not change since the previous frame, so that they need not be upscaled again."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import numpy as np
from numpy.typing import NDArray

from upres.engine.core.frame import FULL, Pixels
from upres.engine.graphs.unpadded import COLUMNS, ROWS
from upres.engine.runtime.base import Graph
from upres.engine.runtime.by_shape import ByShape, Fixable, Releasable

from .manifest import Manifest

STEP = 8  # sides of boxes are multiples, in pixels: runtimes prepare for each new size, so there should be few sizes
MAX_SHARE = 0.7  # limit on the share of a frame that boxes may cover; beyond it, upscaling the whole frame is as fast
MEMORY = 96 << 20
"""Bytes, measured: three more graphs of up to 11 MB each, and the code that oneDNN keeps for sizes of boxes."""

Axes = tuple[int, ...]  # none, ROWS, COLUMNS or both
Unpadded = Callable[[Axes], Graph | None]


@dataclass(frozen=True, slots=True)
class Box:
    """Rectangle in a frame; bottom and right are exclusive."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def area(self) -> int:
        """Number of pixels."""
        return (self.bottom - self.top) * (self.right - self.left)

    def grown(self, by: int, height: int, width: int) -> "Box":
        """Return the box extended on all sides within the frame."""
        return Box(
            max(0, self.top - by), min(height, self.bottom + by), max(0, self.left - by), min(width, self.right + by)
        )

    def without(self, border: int, axes: Axes) -> "Box":
        """Return the box without a border along these axes."""
        rows, columns = border * (ROWS in axes), border * (COLUMNS in axes)
        return Box(self.top + rows, self.bottom - rows, self.left + columns, self.right - columns)

    def of(self, pixels: Pixels, scale: int = 1) -> Pixels:
        """Return this part of a frame, or of a frame upscaled by a factor; it shares the frame's memory."""
        return pixels[self.top * scale : self.bottom * scale, self.left * scale : self.right * scale]

    def within(self, outer: "Box") -> "Box":
        """Return its position relative to a box around it."""
        return Box(self.top - outer.top, self.bottom - outer.top, self.left - outer.left, self.right - outer.left)


def changes(previous: Pixels, current: Pixels, min_gap: int) -> list[Box]:
    """Return boxes that contain all differences between two frames; differences less than `min_gap` pixels apart share one."""
    different = previous != current
    return [
        Box(top, bottom, left, right)
        for top, bottom in _spans(different.reshape(len(current), -1).any(axis=1), min_gap)
        # Reducing both axes in one call takes NumPy a hundred times as long.
        for left, right in _spans(different[top:bottom].any(axis=0).any(axis=1), min_gap)
    ]


def _spans(different: NDArray[np.bool_], min_gap: int) -> Iterator[tuple[int, int]]:
    """Yield the ranges in which something differs, merging those separated by a gap of at most `min_gap`."""
    places = np.flatnonzero(different)
    if places.size:
        cuts = np.flatnonzero(np.diff(places) > min_gap)
        yield from zip(places[[0, *(cuts + 1)]].tolist(), (places[[*cuts, -1]] + 1).tolist(), strict=True)


def boxes(changed: Sequence[Box], height: int, width: int, facts: Manifest) -> list[tuple[Box, Box]] | None:
    """Return, for each change, the area of the result that it affects and the input area needed to compute that area.

    Return None if the areas are too large together. height, width: of the padded frame.
    """
    affected = [change.grown(facts.halo, height, width) for change in changed]
    inputs = [_input(box.grown(facts.halo, height, width), height, width, facts) for box in affected]
    if sum(box.area for box in inputs) > MAX_SHARE * height * width:
        return None
    return list(zip(affected, inputs, strict=True))


def unpadded_axes(affected: Box, inputs: Box, facts: Manifest) -> Axes:
    """Return the axes along which the padding of the input influences nothing of the affected area."""
    inner = inputs.without(border_of(facts), (ROWS, COLUMNS))
    rows = inner.top <= affected.top and affected.bottom <= inner.bottom
    columns = inner.left <= affected.left and affected.right <= inner.right
    return (ROWS,) * rows + (COLUMNS,) * columns


def min_gap_of(facts: Manifest) -> int:
    """Return the distance in pixels at which two changes no longer affect the same output pixels."""
    return 2 * facts.halo


def border_of(facts: Manifest) -> int:
    """Return the width in pixels of the border that results of forms without padding lack.

    A network that works on blocks of pixels loses whole blocks; the rest of its halo is the position of a pixel in its block.
    """
    return facts.halo // facts.multiple * facts.multiple


def _input(box: Box, height: int, width: int, facts: Manifest) -> Box:
    """Return a box around this one in the frame with sides of few different lengths, regardless of its position."""
    return Box(*_extended(box.top, box.bottom, height, facts), *_extended(box.left, box.right, width, facts))


def _extended(start: int, stop: int, length: int, facts: Manifest) -> tuple[int, int]:
    """Extend a range on an axis of this length so that its size is a multiple of the step and its start is one for the network."""
    start, step = start // facts.multiple * facts.multiple, _step(facts)
    size = min(length, -(-(stop - start) // step) * step)
    start = min(start, length - size)
    return start, start + size


def _step(facts: Manifest) -> int:
    return -(-STEP // facts.multiple) * facts.multiple


class Parts:
    """The forms of a graph that upscale parts of frames. Each is only used if it gives the same bits as for the whole frame."""

    def __init__(self, graph: Graph, facts: Manifest, unpadded: Unpadded | None = None, *, deep: bool = False) -> None:
        """Wrap a graph. unpadded: loads the same network without padding. deep: whether its frames are uint16."""
        self._graph = graph
        self._facts = facts
        self._load_unpadded = unpadded
        self._unpadded: dict[Axes, Releasable | None] = {}
        self._deep = deep

    @property
    def memory(self) -> int:
        """Bytes that forms and the code for the sizes of parts take in addition to the memory of a run."""
        return MEMORY if self._facts.exact_halo and isinstance(self._graph, Fixable) else 0

    @cached_property
    def exact(self) -> bool:
        """Whether the graph, as it is used for whole frames, gives the same bits for a part. Not every runtime does."""
        return self._facts.exact_halo and self._gives_equal_bits(self._graph, ())

    def unpadded(self, axes: Axes) -> Releasable | None:
        """Return the graph without padding along these axes, whose result lacks a border there, or None if there is none to use."""
        if not axes or self._load_unpadded is None or not isinstance(self._graph, Fixable):
            return None  # other runtimes would keep the memory of both forms
        if axes not in self._unpadded:
            form = self._load_unpadded(axes)
            usable = isinstance(form, Releasable) and self._gives_equal_bits(form, axes)
            self._unpadded[axes] = cast(Releasable, form) if usable else None
        return self._unpadded[axes]

    def _gives_equal_bits(self, form: Graph, axes: Axes) -> bool:
        """Report whether a form yields the same bits for a part of a frame as the graph compiled for the whole frame."""
        facts, part = self._facts, self._part
        computed = part.without(border_of(facts), axes)
        inner = Box(computed.top, part.bottom - facts.halo, part.left + facts.halo, computed.right)
        cut = form.run({"frame": np.ascontiguousarray(part.of(self._frame))[None]})["upscaled"][0]
        if isinstance(form, Releasable):
            form.release()
        return np.array_equal(inner.of(self._whole, facts.scale), inner.within(computed).of(cut, facts.scale))

    @cached_property
    def _part(self) -> Box:
        """A part at two edges of the frame, at a position where no block that a runtime computes at once starts."""
        step = _step(self._facts)
        size = step + 4 * -(-self._facts.halo // step) * step
        left = step + 3 * self._facts.multiple
        return Box(0, size, left, left + size)

    @cached_property
    def _frame(self) -> Pixels:
        levels, kind = (FULL + 1, np.uint16) if self._deep else (256, np.uint8)
        return np.random.default_rng(0).integers(0, levels, (self._part.right, self._part.right, 3), kind)

    @cached_property
    def _whole(self) -> Pixels:
        """The upscaled frame, from the form compiled for its shape, as in a session."""
        by_shape = ByShape(self._graph)
        whole: Pixels = by_shape.run({"frame": self._frame[None]})["upscaled"][0]
        by_shape.close()
        return whole
