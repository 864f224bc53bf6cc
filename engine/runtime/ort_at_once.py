"""ONNX Runtime's CPU provider as a device: a run is done as soon as it is queued, on memory that stays where it is."""

from collections.abc import Mapping
from pathlib import Path

from .ort import OnnxRuntimeGraph
from .ring.at_once import HostAtOnce
from .ring.device import Spec


class GraphAtOnce(OnnxRuntimeGraph):
    """A graph on ONNX Runtime's CPU provider whose runs are queued, which does them at once."""

    def __init__(self, model: Path | bytes, threads: int, *, mapped: bool = False) -> None:
        """Load a graph, as OnnxRuntimeGraph."""
        self.on = HostAtOnce()
        self.compute = self.on.stream()
        self._threads = threads
        super().__init__(model, threads, mapped=mapped)

    def beside(self, model: bytes) -> "GraphAtOnce":
        """Load another graph."""
        return GraphAtOnce(model, self._threads)

    def prepare(self, inputs: Mapping[str, Spec], *, width: int, height: int) -> str | None:
        """Do nothing: it takes any shape."""
