"""OpenVINO on a CPU, where it is the fastest."""

import threading
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from upres.engine.core.errors import ModelError

from .base import DeviceKind, Tensor, contiguous, cpus
from .by_shape import Shapes

HINTS = {"fp32": "f32", "bf16": "bf16"}
"""What each precision is called; layers that a graph has not in int8 are computed in the fastest that there is besides."""

MANY_WEIGHTS = 8 << 20
"""Bytes of a graph's file: one that is larger takes so long a frame that compiling it for a shape saves next to nothing."""


class OpenVINO:
    """OpenVINO's CPU device. It rounds float32 graphs to bfloat16 where it is asked to and the CPU has it; int8 is in the graph."""

    name = "openvino"
    device: DeviceKind = "cpu"
    preference = 2

    def unavailable(self) -> str | None:
        """Say why graphs cannot run here, and what to do about it."""
        try:
            import openvino  # noqa: F401
        except ImportError:
            return "it is not installed; get it with: pip install openvino"
        return None

    def precisions(self) -> tuple[str, ...]:
        """Name the precisions that this machine computes in, fastest first."""
        return ("int8", "bf16", "fp32") if has_bfloat16() else ("int8", "fp32")

    def load(self, path: Path, precision: str) -> "OpenVINOGraph":
        """Load a graph to be computed in this precision."""
        return OpenVINOGraph(path, precision, cpus())


@cache
def core() -> Any:  # noqa: ANN401 - OpenVINO has no types
    """Return OpenVINO, the same every time. ImportError where it is not installed.

    Each `Core` loads the CPU plug-in, which gives the thread that does so a stack for its signal handlers, and unmaps that in
    whichever thread drops the plug-in: the next signal of the first thread then ended the process. This one is never dropped.
    """
    import openvino

    return openvino.Core()


def has_bfloat16() -> bool:
    """Tell whether this CPU computes in bfloat16; False where OpenVINO is not installed."""
    try:
        return "BF16" in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    except ImportError:
        return False


class Compiled:
    """A network as OpenVINO has compiled it for its CPU device. Runs wait for each other."""

    memory_factor = 0.4

    def __init__(self, model: Any, config: Mapping[str, Any], report: str = "") -> None:  # noqa: ANN401 - OpenVINO has no types
        """Compile; OpenVINO's own errors."""
        self.report = report
        self._compiled = core().compile_model(model, "CPU", dict(config))
        self._request = self._compiled.create_infer_request()
        self._lock = threading.Lock()

    def run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run once; outputs are owned by the caller."""
        with self._lock:
            results = self._request.infer(contiguous(feeds))
            # A value that is an output and something else besides has several names here.
            return {name: results[output].copy() for output in self._compiled.outputs for name in output.get_names()}

    def release(self) -> None:
        """Give back the memory that runs compute in; the next run takes it again."""
        with self._lock:
            self._compiled.release_memory()


class OpenVINOGraph(Compiled):
    """A graph on OpenVINO's CPU device that takes inputs of any shape, and can be compiled for one."""

    def __init__(self, path: Path, precision: str, threads: int) -> None:
        """Load a graph to be computed in fp32, bf16 or, where it has layers in it, int8."""
        import openvino

        fastest = "bf16" if has_bfloat16() else "f32"
        self._config = {
            # OpenVINO's own default is bf16 wherever the CPU has it, so the hint is always set.
            "INFERENCE_PRECISION_HINT": HINTS.get(precision, fastest),
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,
        }
        self._path = path
        self._latest: tuple[Shapes, Compiled] | None = None
        try:
            self._heavy = path.stat().st_size > MANY_WEIGHTS
            self._model = core().read_model(path)
            super().__init__(self._model, self._config)
        except Exception as error:
            raise ModelError(f"OpenVINO cannot load {path}: {error}") from error
        hint = self._compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        real = "fp32" if hint == "f32" else hint
        if precision == "int8" and _runs_in_int8(self._compiled):
            real = f"int8 and {real}"
        self.report = f"OpenVINO {openvino.__version__.split('-')[0]} CPU {real}"

    def fixed(self, shapes: Shapes) -> Compiled:
        """Compile for these shapes: layers then leave out copies that they make for any. The latest is kept, for the next caller.

        A graph of many weights stays as it is: it would hold them twice.
        """
        if self._heavy:
            return self
        latest = self._latest
        if latest is not None and latest[0] == shapes:
            return latest[1]
        model = self._model.clone()
        try:
            model.reshape({name: list(shape) for name, shape in shapes.items()})
            compiled = Compiled(model, self._config, self.report)
        except Exception as error:
            raise ModelError(f"OpenVINO cannot compile {self._path} for {dict(shapes)}: {error}") from error
        self._latest = dict(shapes), compiled
        return compiled


def _runs_in_int8(compiled: Any) -> bool:  # noqa: ANN401 - OpenVINO has no types
    """Tell whether the CPU really runs convolutions in int8: what the graph asks for is only a wish."""
    facts = [operator.get_rt_info() for operator in compiled.get_runtime_model().get_ops()]
    kinds = [fact["primitiveType"].astype(str) for fact in facts if fact["layerType"].astype(str) == "Convolution"]
    return any(kind.endswith("_I8") for kind in kinds)
