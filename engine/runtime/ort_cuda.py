"""ONNX Runtime's CUDA provider as a runtime: its graphs run on a stream of their own, queued and not waited for."""

from collections.abc import Mapping
from pathlib import Path

from .base import DeviceKind, cpus
from .ort import OnnxRuntimeGraph, missing_provider
from .ring import cuda
from .ring.device import Device, Spec, Stream


class Cuda:
    """ONNX Runtime's CUDA provider. Taken by name only: its driver and libraries are the user's choice."""

    name = "cuda"
    device: DeviceKind = "cuda"
    preference = 0

    def unavailable(self) -> str | None:
        """Say why graphs cannot run here, and what to do about it."""
        try:
            return missing_provider(self.device) or cuda.unavailable()
        except ImportError:
            return "onnxruntime is not installed; get it with: pip install 'onnxruntime-gpu[cuda,cudnn]'"

    def precisions(self) -> tuple[str, ...]:
        """Name the precisions that it computes in, fastest first."""
        return ("fp16", "fp32")

    def load(self, path: Path, precision: str) -> "CudaGraph":
        """Load a graph to be computed in one of them."""
        return CudaGraph(path, precision, cuda.CudaDevice())


class CudaGraph(OnnxRuntimeGraph):
    """A graph on ONNX Runtime's CUDA provider, whose runs are queued on `compute`."""

    def __init__(
        self, model: Path | bytes, precision: str, on: Device, compute: Stream | None = None, *, mapped: bool = False
    ) -> None:
        """Load a graph in float32 to be computed in fp32, without TensorFloat-32, or in fp16; ModelError where it cannot be.

        model: its file, or one as bytes, which is computed in its own precision.
        compute: the stream to run on, by default one of its own. mapped: as of OnnxRuntimeGraph.
        """
        self.on = on
        self.compute = compute or on.stream()
        stream = {"user_compute_stream": str(self.compute.handle)}
        super().__init__(model, cpus(), mapped=mapped, device="cuda", precision=precision, settings=stream)

    def beside(self, model: bytes) -> "CudaGraph":
        """Load another graph onto the same stream."""
        return CudaGraph(model, "fp32", self.on, self.compute)

    def prepare(self, inputs: Mapping[str, Spec], *, width: int, height: int) -> str | None:
        """Do nothing: it takes any shape."""
