"""Detection of areas that did not change since the previous frame, so that they need not be upscaled again."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from upres.engine.core.frame import FULL, Pixels
from upres.engine.runtime.base import Graph
from upres.engine.runtime.by_shape import ByShape

from .manifest import Manifest

STEP = 8  # sides of boxes are multiples, in pixels: runtimes prepare for each new size, so there should be few sizes
MAX_SHARE = 0.7  # limit on the share of a frame that boxes may cover; beyond it, upscaling the whole frame is as fast


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


def min_gap_of(facts: Manifest) -> int:
    """Return the distance in pixels at which two changes no longer affect the same output pixels."""
    return 2 * facts.halo


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


def gives_equal_bits(graph: Graph, facts: Manifest, *, deep: bool = False) -> bool:
    """Report whether a graph yields the same bits for a part of a frame as for the whole. Not every runtime does.

    deep: whether its frames are uint16.
    """
    if not facts.exact_halo:
        return False
    step, halo = _step(facts), facts.halo
    size = step + 4 * -(-halo // step) * step
    side = size + step + 3 * facts.multiple  # so the part starts where no block that a runtime computes at once does
    levels, kind = (FULL + 1, np.uint16) if deep else (256, np.uint8)
    frame = np.random.default_rng(0).integers(0, levels, (side, side, 3), kind)
    part = Box(0, size, side - size, side)
    inner = Box(part.top, part.bottom - halo, part.left + halo, part.right)
    # As in a session, the whole frame runs in the form compiled for its shape, and the part in the generic form.
    by_shape = ByShape(graph)
    whole, cut = (
        by_shape.run({"frame": np.ascontiguousarray(each)[None]})["upscaled"][0] for each in (frame, part.of(frame))
    )
    by_shape.close()
    return np.array_equal(inner.of(whole, facts.scale), inner.within(part).of(cut, facts.scale))
