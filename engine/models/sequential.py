"""Session that upscales one frame after another on a CPU, and only the parts of each frame that changed."""

from collections.abc import Callable, Iterator

import numpy as np

from upres.engine.core.frame import Frame, Pixels
from upres.engine.runtime.base import Graph, Tensor
from upres.engine.runtime.by_shape import ByShape

from .manifest import Manifest
from .padding import pad, unpad
from .tiling import Plan, upscale
from .unchanged import Box, Parts, border_of, boxes, changes, min_gap_of, unpadded_axes


class PerFrameSession:
    """Session that upscales one frame at a time and, where possible, only the parts that differ from the previous frame.

    cut: plans the tiles of a padded frame. parts: the forms of the graph that upscale parts of frames with the same bits.
    """

    def __init__(self, graph: Graph, facts: Manifest, cut: Callable[[int, int], Plan], parts: Parts) -> None:
        self._graph = ByShape(graph)
        self._facts = facts
        self._cut = cut
        self._parts = parts
        self._previous: Pixels | None = None
        self._result: Pixels | None = None

    def push(self, frame: Frame) -> Iterator[Frame]:
        """Upscale a frame."""
        pixels = pad(frame.pixels, self._facts)
        self._result = self._upscaled(pixels)
        self._previous = pixels
        result = unpad(self._result, frame.width, frame.height, self._facts)
        yield Frame(result, frame.pts, frame.duration, frame.shot)

    def flush(self) -> Iterator[Frame]:
        """Return an empty iterator: no frame is held back."""
        return iter(())

    def close(self) -> None:
        """Release the memory in which tiles were computed."""
        self._graph.close()

    def _upscaled(self, pixels: Pixels) -> Pixels:
        """Upscale a padded frame, reusing the previous result where possible."""
        height, width, _ = pixels.shape
        if self._previous is None or self._result is None:
            return self._tiled(pixels)
        changed = changes(self._previous, pixels, min_gap_of(self._facts))
        if not changed:
            return self._result
        areas = boxes(changed, height, width, self._facts)
        if areas is None or not self._parts.exact:
            return self._tiled(pixels)
        result, scale = self._result.copy(), self._facts.scale  # the encoder may not have read the previous result yet
        for affected, inputs in areas:
            affected.of(result, scale)[:] = self._part(pixels, affected, inputs)
        return result

    def _part(self, pixels: Pixels, affected: Box, inputs: Box) -> Pixels:
        """Upscale the affected part of a padded frame, without padding the input where that influences nothing."""
        part, facts = inputs.of(pixels), self._facts
        axes = unpadded_axes(affected, inputs, facts)
        form = self._parts.unpadded(axes) if self._cut(part.shape[1], part.shape[0]).count == 1 else None
        if form is None:
            return affected.within(inputs).of(self._tiled(part), facts.scale)
        upscaled = self._graph.run_form(form, _feeds(part))["upscaled"][0]
        return affected.within(inputs.without(border_of(facts), axes)).of(upscaled, facts.scale)

    def _tiled(self, pixels: Pixels) -> Pixels:
        height, width, _ = pixels.shape
        facts = self._facts
        return upscale(pixels, self._cut(width, height), facts.scale, self._run, exact=facts.exact_halo)

    def _run(self, tile: Pixels) -> Pixels:
        upscaled: Pixels = self._graph.run(_feeds(tile))["upscaled"][0]
        return upscaled


def _feeds(tile: Pixels) -> dict[str, Tensor]:
    return {"frame": np.ascontiguousarray(tile)[None]}
