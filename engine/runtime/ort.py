"""ONNX Runtime: its CPU provider as a runtime, and graphs on any of its devices."""

import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from upres.engine.core.errors import MemoryShortError, ModelError
from upres.engine.graphs.onnx_pb2 import TensorProto

from . import half, ort_prelu
from .base import DeviceKind, Tensor, cpus
from .ring.device import BFLOAT16, Bound, Spec

PROVIDERS: dict[DeviceKind, str] = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
# TensorFloat-32, which CUDA uses by default, keeps only 10 of float32's 23 mantissa bits.
PROVIDER_OPTIONS: dict[DeviceKind, dict[str, str]] = {"cpu": {}, "cuda": {"use_tf32": "0"}}
KINDS: Mapping[str, np.dtype[Any]] = {
    "tensor(float)": np.dtype(np.float32),
    "tensor(float16)": np.dtype(np.float16),
    "tensor(bfloat16)": BFLOAT16,
    "tensor(uint8)": np.dtype(np.uint8),
    "tensor(bool)": np.dtype(np.bool_),
    "tensor(int64)": np.dtype(np.int64),
}
NO_MEMORY = re.compile("out of memory|failed to allocate|ALLOC_FAILED|bad allocation|bad_alloc", re.IGNORECASE)
GPU_INSTALL = (
    "pip install 'upres[cuda]'; pip uninstall --yes onnxruntime onnxruntime-gpu; "
    "pip install 'onnxruntime-gpu[cuda,cudnn]'"
)


class OnnxRuntime:
    """ONNX Runtime's CPU provider, which uses the graph's own precision."""

    name = "onnxruntime"
    device: DeviceKind = "cpu"
    preference = 1

    def unavailable(self) -> str | None:
        """Return why graphs cannot run on this machine, and what to do about it."""
        try:
            return missing_provider(self.device)
        except ImportError:
            return "it is not installed; get it with: pip install onnxruntime"

    def precisions(self) -> tuple[str, ...]:
        """Return the precisions that this machine supports, fastest first."""
        return ("fp32",)

    def load(self, path: Path, precision: str) -> "OnnxRuntimeGraph":
        """Load a graph; it runs in its own precision."""
        return OnnxRuntimeGraph(path, cpus(), device=self.device)


class OnnxRuntimeGraph:
    """A graph on ONNX Runtime, in float32 unless the graph specifies another precision.

    On the CPU provider, a tile's result equals that of the whole frame bit for bit.
    """

    memory_factor = 1.0

    def __init__(
        self,
        model: Path | bytes,
        threads: int,
        *,
        mapped: bool = False,
        device: DeviceKind = "cpu",
        precision: str = "fp32",
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """Load a graph from a file or from bytes.

        mapped: memory-map weights in an external file, so that graphs with the same file share them.
        precision: fp32, or fp16 to round a float32 graph. settings: additional options of the provider.
        Raises ModelError if the graph cannot be loaded, or if this ONNX Runtime does not support the device or cannot
        start it.
        """
        import onnxruntime

        if reason := missing_provider(device):
            raise ModelError(reason)
        provider = PROVIDERS[device]
        options, provider_options = _session_options(threads, mapped), {**PROVIDER_OPTIONS[device], **(settings or {})}
        built_in = provider in onnxruntime.get_available_providers()
        if not built_in:
            options.add_provider_for_devices(_plugin_devices(provider)[:1], provider_options)
        elif device == "cuda":
            onnxruntime.preload_dlls()  # CUDA and cuDNN packages from pip are not on the library search path
        providers = [(provider, provider_options)] if built_in else None
        try:
            self._session = onnxruntime.InferenceSession(
                _optimized(model, device, precision), options, providers=providers
            )
        except Exception as error:
            raise ModelError(
                f"ONNX Runtime cannot load {model if isinstance(model, Path) else 'a graph'}: {error}"
            ) from error
        # ONNX Runtime silently omits a provider whose libraries or driver are missing.
        if provider not in (started := self._session.get_providers()):
            raise ModelError(
                f"{provider} does not start here, {started[0]} would run instead; it needs a driver, CUDA and cuDNN: {GPU_INSTALL}"
            )
        self._inputs = {value.name for value in self._session.get_inputs()}
        self._outputs = [output.name for output in self._session.get_outputs()]
        self._unsynchronized = onnxruntime.RunOptions()
        self._unsynchronized.add_run_config_entry("disable_synchronize_execution_providers", "1")
        self._device_kind = device
        self.report = f"ONNX Runtime {onnxruntime.__version__} {provider.removesuffix('ExecutionProvider')} {precision}"

    def run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run once. The caller owns the outputs. Raises MemoryShortError if the device lacks memory."""
        with _memory_errors():
            return dict(zip(self._outputs, self._session.run(self._outputs, dict(feeds)), strict=True))

    def enqueue(self, bound: Mapping[str, Bound]) -> None:
        """Run once on device memory without waiting. Every input and output must be bound.

        Raises MemoryShortError if the device lacks memory for intermediate values.
        """
        binding = self._session.io_binding()
        for name, each in bound.items():
            bind = binding.bind_input if name in self._inputs else binding.bind_output
            kind = TensorProto.BFLOAT16 if each.spec.dtype == BFLOAT16 else each.spec.dtype
            bind(name, self._device_kind, 0, kind, each.spec.shape, each.memory.address)
        with _memory_errors():
            self._session.run_with_iobinding(binding, self._unsynchronized)

    def close(self) -> None:
        """Release the graph and its memory-mapped weights; it cannot run afterwards."""
        del self._session

    def specs(self, sizes: Mapping[str, int]) -> tuple[dict[str, Spec], dict[str, Spec]]:
        """Return the specs of inputs and outputs by name. sizes: of named dimensions, such as H in "H/8" or "4*T"."""
        inputs, outputs = (
            {value.name: Spec(tuple(_size(each, sizes) for each in value.shape), KINDS[value.type]) for value in values}
            for values in (self._session.get_inputs(), self._session.get_outputs())
        )
        return inputs, outputs


def missing_provider(device: DeviceKind) -> str | None:
    """Return what this ONNX Runtime lacks for a device; None if it lacks nothing."""
    import onnxruntime

    provider, built_in = PROVIDERS[device], onnxruntime.get_available_providers()
    if provider in built_in or _plugin_devices(provider):
        return None
    return f"this ONNX Runtime has no {provider}, only {', '.join(built_in)}; get it with: {GPU_INSTALL}"


def _plugin_devices(provider: str) -> list[Any]:
    """Return the devices of a provider whose library was registered at run time."""
    import onnxruntime

    return [device for device in onnxruntime.get_ep_devices() if device.ep_name == provider]


def _session_options(threads: int, mapped: bool) -> Any:  # noqa: ANN401 - ONNX Runtime has no types
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # Spinning would take CPU time from the decoder and the encoder while inference waits.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if mapped:
        options.add_session_config_entry("session.disable_prepacking", "1")  # it copies the weights
    return options


def _optimized(model: Path | bytes, device: DeviceKind, precision: str) -> Path | bytes:
    if isinstance(model, bytes):
        return model
    if device == "cpu":
        return ort_prelu.for_onnxruntime(model)
    return model if precision == "fp32" else half.in_precision(model, precision)


@contextmanager
def _memory_errors() -> Iterator[None]:
    """Convert ONNX Runtime's out-of-memory errors, which have no type of their own, to MemoryShortError."""
    try:
        yield
    except Exception as error:
        if NO_MEMORY.search(str(error)):
            raise MemoryShortError(f"ONNX Runtime is out of memory: {error}") from error
        raise


def _size(dimension: int | str, sizes: Mapping[str, int]) -> int:
    """Evaluate a dimension such as 16, "H/8" or "H*W/256"."""
    product, _, divisor = str(dimension).partition("/")
    return math.prod(sizes[each] if each in sizes else int(each) for each in product.split("*")) // int(divisor or 1)
