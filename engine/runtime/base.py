"""ONNX graphs on devices: ONNX Runtime and OpenVINO behind one small protocol. Knows tensors, not frames or models."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from upres.engine.core.errors import ModelError, SettingsError

Tensor = NDArray[Any]
Quality = Literal["exact", "high"]
Device = Literal["cpu", "cuda"]
PACKAGES = ("onnxruntime", "openvino")
RUNTIMES = ("auto", *PACKAGES, "cuda")
# TensorFloat-32, CUDA's default, keeps 10 of float32's 23 bits.
PROVIDER_OPTIONS: dict[Device, dict[str, str]] = {"cpu": {}, "cuda": {"use_tf32": "0"}}
GPU_INSTALL = "pip uninstall onnxruntime, then pip install 'onnxruntime-gpu[cuda,cudnn]'"


class Graph(Protocol):
    """A graph loaded on a device. report: runtime, version, device and the precision that really runs.

    frugality: the share of a manifest's bytes a pixel, which are ONNX Runtime's, that this runtime takes; measured.
    """

    @property
    def report(self) -> str: ...  # noqa: D102
    @property
    def frugality(self) -> float: ...  # noqa: D102

    def run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run once: input tensors by name in, output tensors by name out, owned by the caller."""
        ...


def load(path: Path, *, quality: Quality = "exact", runtime: str = "auto", threads: int | None = None) -> Graph:
    """Load a graph on the fastest runtime of the CPU at hand, or the one named; cuda is ONNX Runtime on an NVIDIA GPU.

    exact computes in float32. high computes in bfloat16 where the CPU and the runtime have it, else it is exact.
    Raises SettingsError for an unknown runtime, ModelError where the graph or the runtime cannot be loaded.
    """
    if runtime not in RUNTIMES:
        raise SettingsError(f"unknown runtime {runtime!r}; there are: {', '.join(RUNTIMES)}")
    if runtime == "cuda":
        return OnnxRuntimeGraph(path, threads or cpus(), device="cuda")
    if runtime == "openvino" or (runtime == "auto" and "openvino" in available()):
        return OpenVINOGraph(path, quality, threads or cpus())
    return OnnxRuntimeGraph(path, threads or cpus())


def cpus() -> int:
    """How many CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def available() -> dict[str, str]:
    """The runtimes that load here, with their versions."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = str(__import__(name).__version__)
        except ImportError:
            continue
    return found


def has_bfloat16() -> bool:
    """Whether OpenVINO is here and this CPU computes in bfloat16."""
    if "openvino" not in available():
        return False
    import openvino

    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


class OnnxRuntimeGraph:
    """A graph on ONNX Runtime, in float32 unless it says otherwise itself.

    On the CPU provider bit for bit the same for a tile as for the frame it is cut from.
    """

    frugality = 1.0

    def __init__(self, path: Path, threads: int, *, mapped: bool = False, device: Device = "cpu") -> None:
        """mapped: weights in an external file stay there, mapped into memory, and graphs that share the file share them.

        Raises ModelError where the graph cannot be loaded, or this ONNX Runtime was not built for the device or cannot
        start it.
        """
        import onnxruntime

        from . import ort_prelu

        provider = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}[device]
        there = onnxruntime.get_available_providers()
        plugged = [found for found in onnxruntime.get_ep_devices() if found.ep_name == provider]
        if provider not in there and not plugged:
            raise ModelError(
                f"this ONNX Runtime has no {provider}, only {', '.join(there)}; get it with: {GPU_INSTALL}"
            )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        # Decoder and encoder want the cores while inference waits: spinning would take them.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if mapped:
            options.add_session_config_entry("session.disable_prepacking", "1")  # it copies the weights
        if provider not in there:  # a library that was registered at run time
            options.add_provider_for_devices(plugged[:1], {})
        providers = [(provider, PROVIDER_OPTIONS[device])] if provider in there else None
        if providers and device == "cuda":
            onnxruntime.preload_dlls()  # CUDA and cuDNN as pip installs them are on no search path
        try:
            model = ort_prelu.for_onnxruntime(path) if device == "cpu" else path
            self._session = onnxruntime.InferenceSession(model, options, providers=providers)
        except Exception as error:
            raise ModelError(f"ONNX Runtime cannot load {path}: {error}") from error
        # A provider whose libraries or driver are not there is left out without a word.
        if provider not in (started := self._session.get_providers()):
            raise ModelError(
                f"{provider} does not start here, {started[0]} would run instead; it needs a driver, CUDA and cuDNN: {GPU_INSTALL}"
            )
        self._outputs = [output.name for output in self._session.get_outputs()]
        self.device = device
        self.report = f"ONNX Runtime {onnxruntime.__version__} {provider.removesuffix('ExecutionProvider')} fp32"

    def run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run once; outputs are owned by the caller."""
        return dict(zip(self._outputs, self._session.run(self._outputs, dict(feeds)), strict=True))

    def close(self) -> None:
        """Let go of the graph, and of the weights that it has mapped; it cannot run after this."""
        del self._session

    def state(self) -> dict[str, "StateInfo"]:
        """The graph's states by name: inputs called NAME.past.0, NAME.past.1 … and outputs called NAME.new.0 …"""
        found: dict[str, StateInfo] = {}
        for value, way in [
            *((value, "past") for value in self._session.get_inputs()),
            *((value, "new") for value in self._session.get_outputs()),
        ]:
            name, _, place = value.name.rpartition(f".{way}.")
            if name and place.isdigit():
                known = found.get(name, StateInfo(tuple(value.shape), value.type, 0, 0))
                found[name] = replace(known, **{way: getattr(known, way) + 1})
        return found

    def run_bound(
        self, feeds: Mapping[str, Tensor], inputs: Mapping[str, Any], outputs: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        """Run once with some inputs and outputs bound to OrtValues; gives the outputs that are not."""
        binding = self._session.io_binding()
        held = {name: np.ascontiguousarray(value) for name, value in feeds.items()}
        for name, value in held.items():
            binding.bind_cpu_input(name, value)
        for name, value in inputs.items():
            binding.bind_ortvalue_input(name, value)
        given = [name for name in self._outputs if name not in outputs]
        for name in given:
            binding.bind_output(name, "cpu")
        for name, value in outputs.items():
            binding.bind_ortvalue_output(name, value)
        self._session.run_with_iobinding(binding)
        return {name: value.numpy() for name, value in zip(given, binding.get_outputs(), strict=False)}


@dataclass(frozen=True, slots=True)
class StateInfo:
    """A state of a graph. shape: of one tensor, dimensions as numbers or "H/8". kind: ONNX Runtime's name of the type.

    past, new: how many tensors the graph reads and how many it gives.
    """

    shape: tuple[int | str, ...]
    kind: str
    past: int
    new: int


class BoundState:
    """What one run leaves for the next: tensors allocated once on the device, bound by turns, never copied through Python.

    Each state is a ring, one longer than what a run reads: a run overwrites the oldest tensor. Graphs given together share
    their states: one may start what another goes on with.
    """

    def __init__(self, graphs: Sequence[OnnxRuntimeGraph], sizes: Mapping[str, int] | None = None) -> None:
        """sizes: H and W in pixels, for dimensions such as "H/8". Contents are undefined until written or cleared."""
        self._states = {graph: graph.state() for graph in graphs}
        longest: dict[str, StateInfo] = {}
        for name, info in (item for states in self._states.values() for item in states.items()):
            longest[name] = max(longest.get(name, info), info, key=lambda info: info.past + info.new)
        self._rings = {name: _allocate(info, sizes or {}, graphs[0].device) for name, info in longest.items()}
        self._turn = dict.fromkeys(self._rings, 0)

    @property
    def nbytes(self) -> int:
        """Bytes held on the device."""
        return sum(value.tensor_size_in_bytes() for ring in self._rings.values() for value in ring)

    def clear(self) -> None:
        """Set every state to zero."""
        for value in (value for ring in self._rings.values() for value in ring):
            value.update_inplace(np.zeros(value.shape(), _numpy_type(value.data_type())))

    def run(self, graph: OnnxRuntimeGraph, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run a graph on this state and step the state on; gives the other outputs, owned by the caller."""
        past: dict[str, Any] = {}
        new: dict[str, Any] = {}
        for name, info in self._states[graph].items():
            ring, turn = self._rings[name], self._turn[name]
            past |= {f"{name}.past.{at}": ring[(turn - info.past + at) % len(ring)] for at in range(info.past)}
            new |= {f"{name}.new.{at}": ring[(turn + at) % len(ring)] for at in range(info.new)}
            self._turn[name] = (turn + info.new) % len(ring)
        return graph.run_bound(feeds, past, new)


def _allocate(info: StateInfo, sizes: Mapping[str, int], device: str) -> list[Any]:
    import onnxruntime

    shape = []
    for dimension in info.shape:
        size, _, divisor = str(dimension).partition("/")
        shape.append((sizes[size] if size in sizes else int(size)) // int(divisor or 1))
    # bfloat16 has no NumPy type: ONNX's number for it stands in.
    kind = 16 if info.kind == "tensor(bfloat16)" else _numpy_type(info.kind)
    length = info.past + info.new
    return [onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, kind, device) for _ in range(length)]


def _numpy_type(kind: str) -> type[np.generic]:
    """The type of values of this kind; for bfloat16, which NumPy lacks, one as wide whose zero is the same."""
    types: dict[str, type[np.generic]] = {
        "tensor(float)": np.float32,
        "tensor(float16)": np.float16,
        "tensor(bfloat16)": np.uint16,
    }
    return types[kind]


class OpenVINOGraph:
    """A graph on OpenVINO's CPU device, in float32 (exact) or bfloat16 where the CPU has it (high)."""

    frugality = 0.4

    def __init__(self, path: Path, quality: Quality, threads: int) -> None:
        try:
            import openvino
        except ImportError as error:
            raise ModelError("the runtime openvino is not installed; get it with: pip install openvino") from error
        core = openvino.Core()
        wants_bf16 = quality == "high" and has_bfloat16()
        config = {
            # OpenVINO's own default is bf16 wherever the CPU has it, so the hint is always set.
            "INFERENCE_PRECISION_HINT": "bf16" if wants_bf16 else "f32",
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,
        }
        try:
            self._compiled = core.compile_model(path, "CPU", config)
        except Exception as error:
            raise ModelError(f"OpenVINO cannot load {path}: {error}") from error
        self._request = self._compiled.create_infer_request()
        ran = {"f32": "fp32"}.get(name := self._compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name(), name)
        version = openvino.__version__.split("-")[0]
        self.report = f"OpenVINO {version} CPU {ran}"

    def run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run once; outputs are owned by the caller."""
        results = self._request.infer({name: np.ascontiguousarray(value) for name, value in feeds.items()})
        # A value that is an output and something else besides has several names here.
        return {name: results[output].copy() for output in self._compiled.outputs for name in output.get_names()}
