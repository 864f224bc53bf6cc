"""One graph in two forms: for any shape, and compiled for the shape that comes most, where a runtime is faster then."""

import logging
from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from upres.engine.core.errors import ModelError

from .base import Graph, Tensor

Shapes = Mapping[str, tuple[int, ...]]

logger = logging.getLogger(__name__)


class Releasable(Graph, Protocol):
    """A graph that keeps memory from run to run."""

    def release(self) -> None:
        """Give back the memory that runs compute in; the next run takes it again."""
        ...


@runtime_checkable
class Fixable(Releasable, Protocol):
    """A graph that is faster once it is compiled for one shape of each input."""

    def fixed(self, shapes: Shapes) -> Releasable:
        """Compile for these shapes only, by the name of the input; ModelError where that cannot be."""
        ...


class ByShape:
    """A graph that runs as compiled for the shapes of its first run, and otherwise as it is.

    Only the form that ran last keeps the memory that runs compute in. Both give the same bits, or `gives_equal_bits` says no.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._fixed: Releasable | None = None
        self._last: Releasable | None = None
        self._shapes: Shapes = {}

    def run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run once, as `Graph.run`; the first run compiles, and where that fails the form for any shape runs."""
        if not isinstance(self._graph, Fixable):
            return self._graph.run(feeds)
        form = self._form(self._graph, {name: value.shape for name, value in feeds.items()})
        if form is not self._last:
            self.close()
            self._last = form
        return form.run(feeds)

    def close(self) -> None:
        """Release the memory that runs compute in."""
        if self._last is not None:
            self._last.release()

    def _form(self, graph: Fixable, shapes: Shapes) -> Releasable:
        if self._fixed is None:
            self._shapes = shapes
            try:
                self._fixed = graph.fixed(shapes)
            except ModelError as error:
                logger.warning("frames are upscaled more slowly: %s", error)
                self._fixed = graph
        return self._fixed if shapes == self._shapes else graph
