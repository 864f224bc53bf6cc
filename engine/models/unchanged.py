"""What did not change from one frame to the next, so that it need not be upscaled again."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from upres.engine.core.frame import FULL, Pixels
from upres.engine.runtime.base import Graph
from upres.engine.runtime.by_shape import ByShape

from .manifest import Manifest

STEP = 32  # pixels that boxes are cut by: runtimes get ready for each size, so there shall be few
MOST_SHARE = 0.7  # of a frame that boxes may be together; more is no faster than all of it


@dataclass(frozen=True, slots=True)
class Box:
    """A part of a frame, from top and left on, bottom and right excluded."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def area(self) -> int:
        """Count its pixels."""
        return (self.bottom - self.top) * (self.right - self.left)

    def grown(self, by: int, height: int, width: int, step: int = 1) -> "Box":
        """Grow it on all sides within a frame, to edges that lie on multiples of a step or at the frame's own."""
        top, left = max(0, self.top - by) // step * step, max(0, self.left - by) // step * step
        bottom, right = -(-(self.bottom + by) // step) * step, -(-(self.right + by) // step) * step
        return Box(top, min(height, bottom), left, min(width, right))

    def of(self, pixels: Pixels, scale: int = 1) -> Pixels:
        """Cut it out of a frame, or of one that is larger by a scale; it shares the frame's memory."""
        return pixels[self.top * scale : self.bottom * scale, self.left * scale : self.right * scale]

    def within(self, outer: "Box") -> "Box":
        """Say where it lies in a box around it."""
        return Box(self.top - outer.top, self.bottom - outer.top, self.left - outer.left, self.right - outer.left)


def changes(before: Pixels, now: Pixels, apart: int) -> list[Box]:
    """Find boxes that hold all that differs between two frames of one size; what is less than `apart` away is in one."""
    different = before != now
    return [
        Box(top, bottom, left, right)
        for top, bottom in _spans(different.reshape(len(now), -1).any(axis=1), apart)
        # Over both axes at once NumPy takes a hundred times as long.
        for left, right in _spans(different[top:bottom].any(axis=0).any(axis=1), apart)
    ]


def _spans(different: NDArray[np.bool_], apart: int) -> Iterator[tuple[int, int]]:
    """Yield from where to where something differs, with shorter gaps in between."""
    places = np.flatnonzero(different)
    if places.size:
        cuts = np.flatnonzero(np.diff(places) > apart)
        yield from zip(places[[0, *(cuts + 1)]].tolist(), (places[[*cuts, -1]] + 1).tolist(), strict=True)


def boxes(found: Sequence[Box], height: int, width: int, facts: Manifest) -> list[tuple[Box, Box]] | None:
    """Say what of a result each change shows in, and what has to go into the network for it; None where that is too much.

    height, width: of the frame as it goes in.
    """
    shown = [change.grown(facts.halo, height, width) for change in found]
    needed = [box.grown(facts.halo, height, width, step=_step(facts)) for box in shown]
    if sum(box.area for box in needed) > MOST_SHARE * height * width:
        return None
    return list(zip(shown, needed, strict=True))


def apart(facts: Manifest) -> int:
    """Return how far apart two changes have to be, so that what they show in is not the same."""
    return 2 * facts.halo


def _step(facts: Manifest) -> int:
    return -(-STEP // facts.multiple) * facts.multiple


def gives_equal_bits(graph: Graph, facts: Manifest, *, deep: bool = False) -> bool:
    """Tell whether a graph gives the same bits for a part of a frame as for the whole: not every runtime does.

    deep: it takes frames of uint16.
    """
    if not facts.exact_halo:
        return False
    side, halo = 2 * _step(facts) + 4 * -(-facts.halo // _step(facts)) * _step(facts), facts.halo
    levels, kind = (FULL + 1, np.uint16) if deep else (256, np.uint8)
    frame = np.random.default_rng(0).integers(0, levels, (side, side, 3), kind)
    part = Box(0, side - _step(facts), _step(facts), side)
    inner = Box(part.top, part.bottom - halo, part.left + halo, part.right)
    either = ByShape(graph)  # as a session runs it: the whole in the form for its shape, the part in the one for any
    whole, cut = (
        either.run({"frame": np.ascontiguousarray(each)[None]})["upscaled"][0] for each in (frame, part.of(frame))
    )
    either.close()
    return np.array_equal(inner.of(whole, facts.scale), inner.within(part).of(cut, facts.scale))
