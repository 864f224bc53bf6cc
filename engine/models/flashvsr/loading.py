"""Loading of graphs onto one device, with all runs on one stream, which is what orders accesses to tensors on the device."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from upres.engine.core.errors import ModelError
from upres.engine.runtime.base import DeviceKind
from upres.engine.runtime.ort_at_once import GraphAtOnce
from upres.engine.runtime.ort_cuda import Cuda, CudaGraph
from upres.engine.runtime.ring.cuda import CudaDevice
from upres.engine.runtime.ring.device import DeviceGraph, StateGraph, Stream

from .networks import FIRST, NEXT
from .tokens import cutting


class Loader:
    """Loads graphs. device: cpu or cuda. threads: of the CPU runtime."""

    def __init__(self, device: DeviceKind, threads: int) -> None:
        self._device = device
        self._threads = threads

    def __call__(self, path: Path) -> StateGraph:
        """Load a graph with memory-mapped weights. Raises ModelError if that fails or the device is unavailable."""
        if self._device == "cpu":
            return GraphAtOnce(path, self._threads, mapped=True)
        if reason := Cuda().unavailable():
            raise ModelError(reason)
        on, compute = self._cuda
        return CudaGraph(path, "fp32", on, compute, mapped=True)

    @cached_property
    def _cuda(self) -> tuple[CudaDevice, Stream]:
        on = CudaDevice()
        return on, on.stream()


def load_token_cuts(graph: DeviceGraph) -> Mapping[int, DeviceGraph]:
    """Load the graphs that cut out the tokens of tiles onto a graph's device."""
    return {count: graph.load_another(cutting(count)) for count in (FIRST, NEXT)}
