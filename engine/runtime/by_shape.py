"""One graph in two forms: generic, and compiled for the most frequent shape if that makes the runtime faster."""

import logging
from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from upres.engine.core.errors import ModelError

from .base import Graph, Tensor

Shapes = Mapping[str, tuple[int, ...]]

logger = logging.getLogger(__name__)


@runtime_checkable
class Releasable(Graph, Protocol):
    """A graph that keeps memory between runs."""

    def release(self) -> None:
        """Release the working memory of runs; the next run allocates it again."""
        ...


@runtime_checkable
class Fixable(Releasable, Protocol):
    """A graph that is faster after being compiled for a fixed shape of each input."""

    def fixed(self, shapes: Shapes) -> Releasable:
        """Compile for these shapes only, by input name. Raises ModelError if that is impossible."""
        ...


class ByShape:
    """A graph that runs as compiled for the shapes of its first run, and for other shapes in its generic form.

    Only the form that ran last keeps its working memory. `models/unchanged.Parts` checks whether both yield the same bits.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._fixed: Releasable | None = None
        self._last: Releasable | None = None
        self._shapes: Shapes = {}

    def run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run once, as `Graph.run`. The first run compiles; if that fails, the generic form runs."""
        if not isinstance(self._graph, Fixable):
            return self._graph.run(feeds)
        return self.run_form(self._form(self._graph, {name: value.shape for name, value in feeds.items()}), feeds)

    def run_form(self, form: Releasable, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run another form of the same network once. It shares the rule that only the form that ran last keeps its memory."""
        if form is not self._last:
            self.close()
            self._last = form
        return form.run(feeds)

    def close(self) -> None:
        """Release the working memory of runs."""
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
