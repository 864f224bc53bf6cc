"""TensorRT with only the names that upres uses. Its engines are files that name an ONNX graph, run by ONNX Runtime."""

import ctypes
import hashlib
import json
import weakref
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import numpy as np

from upres.engine.machine.nvidia import GPU, Driver
from upres.engine.runtime import half
from upres.engine.runtime.engines import first_run
from upres.engine.runtime.engines.manifest import Builder, Contents, EngineManifest, file_name, first_run_file
from upres.engine.runtime.ort import OnnxRuntimeGraph

NAMES = {
    "": ("Logger", "Runtime", "nptype", "__version__"),
    "Logger": ("ERROR",),
    "Runtime": ("deserialize_cuda_engine",),
    "ICudaEngine": (
        "create_execution_context",
        "get_tensor_dtype",
        "get_tensor_name",
        "get_tensor_shape",
        "num_io_tensors",
    ),
    "IExecutionContext": ("engine", "execute_async_v3", "set_tensor_address"),
}
"""The TensorRT names that upres uses, by class."""

DRIVER = Driver("580.65", "13.0", (GPU(0, "NVIDIA L4", (8, 9), 24 << 30),), None, True)
BUILDER = Builder("tensorrt", "10.14", "SM89")


class Logger:
    ERROR = 1

    def __init__(self, severity):
        assert severity == self.ERROR


class ICudaEngine:
    def __init__(self, facts, device):
        self._facts, self.device = facts, device
        self.num_io_tensors = 2

    def get_tensor_name(self, index):
        return ("frame", "upscaled")[index]

    def get_tensor_shape(self, name):
        return self._facts["shapes"][name]

    def get_tensor_dtype(self, name):
        return "UINT8"

    def create_execution_context(self):
        return None if self._facts.get("no memory") else IExecutionContext(self)


class IExecutionContext:
    def __init__(self, engine):
        self.engine = engine
        self._addresses = {}

    def set_tensor_address(self, name, address):
        self._addresses[name] = address
        return True

    def execute_async_v3(self, handle):
        facts, addresses = self.engine._facts, dict(self._addresses)
        stream = next(stream for stream in self.engine.device._streams if stream.handle == handle)
        context = weakref.ref(self)

        def run():
            assert context() is not None, "the context was deleted during its run"
            _compute(facts, addresses)

        stream.call(run)
        return not facts.get("fails")


def module(device):
    """Return the tensorrt package, running on a HostDevice, and its classes by name."""

    class Runtime:
        def __init__(self, logger):
            assert isinstance(logger, Logger)

        def deserialize_cuda_engine(self, blob):
            facts = json.loads(blob)
            return None if facts.get("refused") else ICudaEngine(facts, device)

    package = ModuleType("tensorrt")
    package.__spec__ = ModuleSpec("tensorrt", None)
    package.__version__ = BUILDER.version
    package.Logger, package.Runtime, package.nptype = Logger, Runtime, lambda kind: np.uint8
    return package, {"": package, **{kind.__name__: kind for kind in (Logger, Runtime, ICudaEngine, IExecutionContext)}}


def _compute(facts, addresses):
    arrays = {}
    for name, shape in facts["shapes"].items():
        size = int(np.prod(shape))
        arrays[name] = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(addresses[name])).reshape(shape)
    result = OnnxRuntimeGraph(Path(facts["graph"]), 1).run({"frame": arrays["frame"]})["upscaled"]
    arrays["upscaled"][:] = 255 - result if facts.get("wrong") else result


def build(folder, graph, precision, shape, scale, **faults):
    """Write an engine with its manifest and first run. faults: its defects, as the classes above read them."""
    folder.mkdir(parents=True, exist_ok=True)
    _, height, width, _ = shape
    path = folder / file_name(graph.stem, precision, width, height, BUILDER)
    larger = (1, height * scale, width * scale, 3)
    path.write_text(json.dumps({"graph": str(graph), "shapes": {"frame": shape, "upscaled": larger}, **faults}))
    inputs = first_run.fixed_inputs({"frame": (shape, np.dtype(np.uint8))})
    first_run.write(path, OnnxRuntimeGraph(graph, 1).run(inputs))
    digest = hashlib.sha256(half.in_precision(graph, precision)).hexdigest()
    stored = hashlib.sha256(first_run_file(path).read_bytes()).hexdigest()
    blob = path.read_bytes()
    contents = Contents(digest, "", precision, {"frame": tuple(shape)})
    EngineManifest(contents, BUILDER, hashlib.sha256(blob).hexdigest(), len(blob), stored, "build it").write(path)
    return path
