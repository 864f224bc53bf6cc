"""ONNX graphs on devices: ONNX Runtime and OpenVINO behind one small protocol. Knows tensors, not frames or models."""

import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from .errors import ModelError, SettingsError

Tensor = NDArray[Any]
Quality = Literal["exact", "high"]
RUNTIMES = ("auto", "onnxruntime", "openvino")


class Graph(Protocol):
    """A graph loaded on a device. report: runtime, version, device and the precision that really runs."""

    @property
    def report(self) -> str: ...  # noqa: D102

    def run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run once: input tensors by name in, output tensors by name out, owned by the caller."""
        ...


def load(path: Path, *, quality: Quality = "exact", runtime: str = "auto", threads: int | None = None) -> Graph:
    """Load a graph on the fastest runtime at hand, or the one named.

    exact computes in float32. high computes in bfloat16 where the CPU and the runtime have it, else it is exact.
    Raises SettingsError for an unknown runtime, ModelError where the graph or the runtime cannot be loaded.
    """
    if runtime not in RUNTIMES:
        raise SettingsError(f"unknown runtime {runtime!r}; there are: {', '.join(RUNTIMES)}")
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
    for name in RUNTIMES[1:]:
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
    """A graph on ONNX Runtime's CPU provider, in float32; bit for bit the same for a tile as for the frame it is cut from."""

    def __init__(self, path: Path, threads: int) -> None:
        import onnxruntime

        from . import prelu

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        # Decoder and encoder want the cores while inference waits: spinning would take them.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(
                prelu.for_onnxruntime(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            raise ModelError(f"ONNX Runtime cannot load {path}: {error}") from error
        self._outputs = [output.name for output in self._session.get_outputs()]
        provider = self._session.get_providers()[0].removesuffix("ExecutionProvider")
        self.report = f"ONNX Runtime {onnxruntime.__version__} {provider} fp32"

    def run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run once; outputs are owned by the caller."""
        return dict(zip(self._outputs, self._session.run(self._outputs, dict(feeds)), strict=True))


class OpenVINOGraph:
    """A graph on OpenVINO's CPU device, in float32 (exact) or bfloat16 where the CPU has it (high)."""

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
        return {output.get_any_name(): results[output].copy() for output in self._compiled.outputs}
