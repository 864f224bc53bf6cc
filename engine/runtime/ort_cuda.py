"""ONNX Runtime's CUDA provider as a runtime: graphs run asynchronously on their own stream."""

from collections.abc import Mapping
from pathlib import Path

from .base import DeviceKind, cpus
from .ort import OnnxRuntimeGraph, missing_provider
from .ring import cuda
from .ring.device import Device, Spec, Stream


class Cuda:
    """ONNX Runtime's CUDA provider. Only used by name, because its driver and libraries are the user's choice."""

    name = "cuda"
    device: DeviceKind = "cuda"
    preference = 0

    def unavailable(self) -> str | None:
        """Return why graphs cannot run on this machine, and what to do about it."""
        try:
            return missing_provider(self.device) or cuda.unavailable()
        except ImportError:
            return "onnxruntime is not installed; get it with: pip install 'onnxruntime-gpu[cuda,cudnn]'"

    def precisions(self) -> tuple[str, ...]:
        """Return the supported precisions, fastest first."""
        return ("fp16", "fp32")

    def load(self, path: Path, precision: str) -> "CudaGraph":
        """Load a graph to run in one of `precisions`."""
        return CudaGraph(path, precision, cuda.CudaDevice())


class CudaGraph(OnnxRuntimeGraph):
    """A graph on ONNX Runtime's CUDA provider, whose runs are enqueued on `compute`."""

    def __init__(
        self,
        model: Path | bytes,
        precision: str,
        device: Device,
        compute: Stream | None = None,
        *,
        mapped: bool = False,
    ) -> None:
        """Load a float32 graph to run in fp32, without TensorFloat-32, or in fp16. Raises ModelError if that fails.

        model: its file, or a graph as bytes, which runs in its own precision.
        compute: the stream to run on; a new one by default. mapped: as in OnnxRuntimeGraph.
        """
        self.device = device
        self.compute = compute or device.stream()
        stream = {"user_compute_stream": str(self.compute.handle)}
        super().__init__(model, cpus(), mapped=mapped, device="cuda", precision=precision, settings=stream)

    def load_another(self, model: bytes) -> "CudaGraph":
        """Load another graph on the same stream."""
        return CudaGraph(model, "fp32", self.device, self.compute)

    def prepare(self, inputs: Mapping[str, Spec], *, width: int, height: int) -> str | None:
        """Return None: any shape is accepted without preparation."""
