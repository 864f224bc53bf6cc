"""OpenVINO on a CPU, on which it is the fastest runtime."""

import threading
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from upres.engine.core.errors import ModelError

from .base import DeviceKind, Tensor, contiguous, cpus
from .by_shape import Shapes

HINTS = {"fp32": "f32", "bf16": "bf16"}
"""OpenVINO's names of precisions. Layers that an int8 graph does not quantize run in the fastest other precision."""

MANY_WEIGHTS = 8 << 20
"""File size of a graph above which compiling for a shape saves almost nothing, because each frame takes so long."""


class OpenVINO:
    """OpenVINO's CPU device. It rounds float32 graphs to bfloat16 on request if the CPU supports that; int8 is set in the graph."""

    name = "openvino"
    device: DeviceKind = "cpu"
    preference = 2

    def unavailable(self) -> str | None:
        """Return why graphs cannot run on this machine, and what to do about it."""
        try:
            import openvino  # noqa: F401
        except ImportError:
            return "it is not installed; get it with: pip install openvino"
        return None

    def precisions(self) -> tuple[str, ...]:
        """Return the precisions that this machine supports, fastest first."""
        return ("int8", "bf16", "fp32") if has_bfloat16() else ("int8", "fp32")

    def load(self, path: Path, precision: str) -> "OpenVINOGraph":
        """Load a graph to run in this precision."""
        return OpenVINOGraph(path, precision, cpus())


@cache
def core() -> Any:  # noqa: ANN401 - OpenVINO has no types
    """Return the one OpenVINO `Core` of this process. Raises ImportError if OpenVINO is not installed.

    Loading its CPU plug-in gives the calling thread an alternate stack for signal handlers, which is unmapped in whichever thread
    drops the plug-in. The first thread's next signal would then end the process, so this instance is never dropped.
    """
    import openvino

    return openvino.Core()


def has_bfloat16() -> bool:
    """Report whether this CPU supports bfloat16; False if OpenVINO is not installed."""
    try:
        return "BF16" in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    except ImportError:
        return False


class Compiled:
    """A network compiled for OpenVINO's CPU device. Only one run executes at a time."""

    memory_factor = 0.4

    def __init__(self, model: Any, config: Mapping[str, Any], report: str = "") -> None:  # noqa: ANN401 - OpenVINO has no types
        """Compile the model; OpenVINO's own errors propagate."""
        self.report = report
        self._compiled = core().compile_model(model, "CPU", dict(config))
        self._request = self._compiled.create_infer_request()
        self._lock = threading.Lock()

    def run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run once. The caller owns the outputs."""
        with self._lock:
            results = self._request.infer(contiguous(feeds))
            # An output that is also an intermediate value has several names here.
            return {name: results[output].copy() for output in self._compiled.outputs for name in output.get_names()}

    def release(self) -> None:
        """Release the working memory of runs; the next run allocates it again."""
        with self._lock:
            self._compiled.release_memory()


class OpenVINOGraph(Compiled):
    """A graph on OpenVINO's CPU device that accepts inputs of any shape and can be compiled for a fixed one."""

    def __init__(self, path: Path, precision: str, threads: int) -> None:
        """Load a graph to run in fp32, bf16 or, for its quantized layers, int8."""
        import openvino

        fastest = "bf16" if has_bfloat16() else "f32"
        self._config = {
            # OpenVINO's own default is bf16 wherever the CPU has it, so the hint is always set.
            "INFERENCE_PRECISION_HINT": HINTS.get(precision, fastest),
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,
            # Code for each shape would be kept for hundreds of shapes, a megabyte or more each. oneDNN keeps enough of it.
            "CPU_RUNTIME_CACHE_CAPACITY": 0,
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
        """Compile for these shapes, which saves copies that generic layers make. The latest result is cached for other callers.

        A graph with many weights is returned as it is, because compiling would hold the weights twice.
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
    """Report whether the CPU actually runs convolutions in int8, which the graph can only request."""
    facts = [operator.get_rt_info() for operator in compiled.get_runtime_model().get_ops()]
    kinds = [fact["primitiveType"].astype(str) for fact in facts if fact["layerType"].astype(str) == "Convolution"]
    return any(kind.endswith("_I8") for kind in kinds)
