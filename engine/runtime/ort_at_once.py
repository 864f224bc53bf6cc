"""ONNX Runtime's CPU provider as a synchronous device: enqueuing executes immediately, on host memory."""

from collections.abc import Mapping
from pathlib import Path

from .ort import OnnxRuntimeGraph
from .ring.at_once import HostAtOnce
from .ring.device import Spec


class GraphAtOnce(OnnxRuntimeGraph):
    """A graph on ONNX Runtime's CPU provider whose enqueued runs execute immediately."""

    def __init__(self, model: Path | bytes, threads: int, *, mapped: bool = False) -> None:
        """Load a graph, as OnnxRuntimeGraph does."""
        self.device = HostAtOnce()
        self.compute = self.device.stream()
        self._threads = threads
        super().__init__(model, threads, mapped=mapped)

    def load_another(self, model: bytes) -> "GraphAtOnce":
        """Load another graph."""
        return GraphAtOnce(model, self._threads)

    def prepare(self, inputs: Mapping[str, Spec], *, width: int, height: int) -> str | None:
        """Return None: any shape is accepted without preparation."""
