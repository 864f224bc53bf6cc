"""ONNX Runtime: its CPU as a runtime, and graphs on any of its devices."""

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from upres.engine.core.errors import MemoryShortError, ModelError

from . import half, ort_prelu
from .base import DeviceKind, Tensor, contiguous, cpus

if TYPE_CHECKING:
    from .ring.device import Bound

PROVIDERS: dict[DeviceKind, str] = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
# TensorFloat-32, CUDA's default, keeps 10 of float32's 23 bits.
PROVIDER_OPTIONS: dict[DeviceKind, dict[str, str]] = {"cpu": {}, "cuda": {"use_tf32": "0"}}
OnDevice: TypeAlias = Any
"""An OrtValue: a tensor that stays where a graph has put it."""
NO_MEMORY = re.compile("out of memory|failed to allocate|ALLOC_FAILED|bad allocation|bad_alloc", re.IGNORECASE)
GPU_INSTALL = (
    "pip install 'upres[cuda]'; pip uninstall --yes onnxruntime onnxruntime-gpu; "
    "pip install 'onnxruntime-gpu[cuda,cudnn]'"
)


class OnnxRuntime:
    """ONNX Runtime's CPU provider, which computes in the graph's own precision."""

    name = "onnxruntime"
    device: DeviceKind = "cpu"
    preference = 1

    def unavailable(self) -> str | None:
        """Say why graphs cannot run here, and what to do about it."""
        try:
            return missing_provider(self.device)
        except ImportError:
            return "it is not installed; get it with: pip install onnxruntime"

    def precisions(self) -> tuple[str, ...]:
        """Name the precisions that this machine computes in, fastest first."""
        return ("fp32",)

    def load(self, path: Path, precision: str) -> "OnnxRuntimeGraph":
        """Load a graph; its precision is its own."""
        return OnnxRuntimeGraph(path, cpus(), device=self.device)


class OnnxRuntimeGraph:
    """A graph on ONNX Runtime, in float32 unless it says otherwise itself.

    On the CPU provider bit for bit the same for a tile as for the frame it is cut from.
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
        """Load a graph, from a file or as one.

        mapped: weights in an external file stay there, mapped into memory, and graphs that share the file share them.
        precision: fp32, or fp16 to round a graph in float32. settings: of the provider, besides those that make it right.
        Raises ModelError where the graph cannot be loaded, or this ONNX Runtime was not built for the device or cannot
        start it.
        """
        import onnxruntime

        if reason := missing_provider(device):
            raise ModelError(reason)
        provider = PROVIDERS[device]
        options, wanted = _session_options(threads, mapped), {**PROVIDER_OPTIONS[device], **(settings or {})}
        built_in = provider in onnxruntime.get_available_providers()
        if not built_in:
            options.add_provider_for_devices(_plugged(provider)[:1], wanted)
        elif device == "cuda":
            onnxruntime.preload_dlls()  # CUDA and cuDNN as pip installs them are on no search path
        providers = [(provider, wanted)] if built_in else None
        try:
            self._session = onnxruntime.InferenceSession(
                _optimized(model, device, precision), options, providers=providers
            )
        except Exception as error:
            raise ModelError(
                f"ONNX Runtime cannot load {model if isinstance(model, Path) else 'a graph'}: {error}"
            ) from error
        # A provider whose libraries or driver are not there is left out without a word.
        if provider not in (started := self._session.get_providers()):
            raise ModelError(
                f"{provider} does not start here, {started[0]} would run instead; it needs a driver, CUDA and cuDNN: {GPU_INSTALL}"
            )
        self._inputs = {value.name for value in self._session.get_inputs()}
        self._outputs = [output.name for output in self._session.get_outputs()]
        self._unsynchronized = onnxruntime.RunOptions()
        self._unsynchronized.add_run_config_entry("disable_synchronize_execution_providers", "1")
        self.device = device
        self.report = f"ONNX Runtime {onnxruntime.__version__} {provider.removesuffix('ExecutionProvider')} {precision}"

    def run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run once; outputs are owned by the caller. Raises MemoryShortError where the device has not the memory for it."""
        with _memory_errors():
            return dict(zip(self._outputs, self._session.run(self._outputs, dict(feeds)), strict=True))

    def enqueue(self, bound: "Mapping[str, Bound]") -> None:
        """Run once on memory of the device, without waiting for it. Every input and output is bound.

        Raises MemoryShortError where the device has not the memory for what lies between.
        """
        binding = self._session.io_binding()
        for name, each in bound.items():
            bind = binding.bind_input if name in self._inputs else binding.bind_output
            bind(name, self.device, 0, each.spec.dtype, each.spec.shape, each.memory.address)
        with _memory_errors():
            self._session.run_with_iobinding(binding, self._unsynchronized)

    def close(self) -> None:
        """Release the graph, and the weights that it has mapped; it cannot run after this."""
        del self._session

    def state(self) -> "dict[str, StateInfo]":
        """Find the graph's states by name: inputs NAME.past.0, NAME.past.1 … and outputs NAME.new.0 …"""
        states: dict[str, StateInfo] = {}
        for value, way in [
            *((value, "past") for value in self._session.get_inputs()),
            *((value, "new") for value in self._session.get_outputs()),
        ]:
            name, _, index = value.name.rpartition(f".{way}.")
            if name and index.isdigit():
                known = states.get(name, StateInfo(tuple(value.shape), value.type, 0, 0))
                states[name] = replace(known, **{way: getattr(known, way) + 1})
        return states

    def run_bound(
        self,
        feeds: Mapping[str, Tensor],
        inputs: Mapping[str, OnDevice],
        outputs: Mapping[str, OnDevice],
        *,
        left: Collection[str] = (),
    ) -> dict[str, Any]:
        """Run once with some inputs and outputs bound to what is on the device; return the outputs that are not.

        left: those of them that are returned as they are left on the device; the others are arrays.
        """
        binding = self._session.io_binding()
        arrays = contiguous(feeds)  # the binding keeps no reference to them
        for name, value in arrays.items():
            binding.bind_cpu_input(name, value)
        for name, value in inputs.items():
            binding.bind_ortvalue_input(name, value)
        unbound = [name for name in self._outputs if name not in outputs]
        for name in unbound:
            binding.bind_output(name, self.device if name in left else "cpu")
        for name, value in outputs.items():
            binding.bind_ortvalue_output(name, value)
        self._session.run_with_iobinding(binding)
        values = dict(zip(unbound, binding.get_outputs(), strict=False))
        return {name: value if name in left else value.numpy() for name, value in values.items()}


@dataclass(frozen=True, slots=True)
class StateInfo:
    """A state of a graph. shape: of one tensor, dimensions as numbers or "H/8". kind: ONNX Runtime's name of the type.

    past, new: how many tensors the graph reads and how many it writes.
    """

    shape: tuple[int | str, ...]
    kind: str
    past: int
    new: int


def missing_provider(device: DeviceKind) -> str | None:
    """Say what this ONNX Runtime lacks for a device."""
    import onnxruntime

    provider, built_in = PROVIDERS[device], onnxruntime.get_available_providers()
    if provider in built_in or _plugged(provider):
        return None
    return f"this ONNX Runtime has no {provider}, only {', '.join(built_in)}; get it with: {GPU_INSTALL}"


def _plugged(provider: str) -> list[Any]:
    """Find the devices of a provider whose library was registered at run time."""
    import onnxruntime

    return [device for device in onnxruntime.get_ep_devices() if device.ep_name == provider]


def _session_options(threads: int, mapped: bool) -> Any:  # noqa: ANN401 - ONNX Runtime has no types
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # Decoder and encoder want the cores while inference waits: spinning would take them.
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
    """Raise what ONNX Runtime says of memory that it does not get as a MemoryShortError: it has no type for it."""
    try:
        yield
    except Exception as error:
        if NO_MEMORY.search(str(error)):
            raise MemoryShortError(f"ONNX Runtime gets no memory: {error}") from error
        raise
