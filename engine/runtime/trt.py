"""TensorRT, 10.14 to 11, and TensorRT for RTX as runtimes: prebuilt engines that run asynchronously on a stream.

Engines are never built on demand: for tiles without a usable engine, ONNX Runtime's CUDA provider runs the same graph.
"""

import hashlib
import importlib
import importlib.util
from collections import OrderedDict
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from upres.engine.core.errors import MemoryShortError, ModelError
from upres.engine.machine import nvidia
from upres.engine.machine.cache import cache_folder

from . import half
from .base import DeviceKind, Tensor
from .engines import check, first_run, runtime_cache
from .engines.manifest import INSTALL, MODULES, Builder, Contents, Target, file_name
from .engines.runtime_cache import RuntimeCache
from .ort_cuda import Cuda, CudaGraph
from .ring import cuda
from .ring.device import Bound, Device, Spec
from .ring.ring import run_once

MOST_LOADED = 4  # limit on the loaded engines of one graph; a session uses one

PRODUCTS: Mapping[Target, str] = {"tensorrt": "TensorRT", "tensorrt-rtx": "TensorRT for RTX"}


class TensorRT:
    """TensorRT's runtime. Used by name, or by `auto` if `upres tune` has measured it."""

    name: Target = "tensorrt"
    device: DeviceKind = "cuda"
    preference = 0

    def unavailable(self) -> str | None:
        """Return why engines cannot run on this machine, and what to do about it."""
        if importlib.util.find_spec(MODULES[self.name]) is None:
            return f"{self.name} is not installed; get it with: {INSTALL[self.name]}"
        return cuda.unavailable()

    def precisions(self) -> tuple[str, ...]:
        """Return the precisions that engines are built in, fastest first."""
        return ("fp16", "fp32")

    def load(self, path: Path, precision: str) -> "TensorRTGraph":
        """Open a float32 graph whose engines run in this precision. Raises ModelError if there is no GPU or driver."""
        driver = nvidia.driver()
        if driver.problem:  # without a driver, TensorRT's own objects would crash
            raise ModelError(f"{PRODUCTS[self.name]} needs an NVIDIA GPU and its driver: {driver.problem}")
        return TensorRTGraph(path, precision, self.name, driver, cuda.CudaDevice())


class TensorRTForRTX(TensorRT):
    """TensorRT for RTX, whose engines can be built on machines without a GPU."""

    name: Target = "tensorrt-rtx"


class TensorRTGraph:
    """The engines of one graph, by input shape, each loaded when a session needs it; the most recently used are kept."""

    memory_factor = 0.25  # layers are fused, mostly in 16 bits; an estimate, because no GPU has run this yet

    def __init__(self, path: Path, precision: str, target: Target, driver: nvidia.Driver, device: Device) -> None:
        self._module = importlib.import_module(MODULES[target])
        self._runtime = self._module.Runtime(self._module.Logger(self._module.Logger.ERROR))
        self._path = path
        self._precision = precision
        self._driver = driver
        self._builder = Builder(target, self._module.__version__, check.capability_of(driver.gpus[0]))
        self._graph_sha256 = hashlib.sha256(half.in_precision(path, precision)).hexdigest()
        # Contexts with their runtime caches, which must live as long; the most recently used one is last.
        self._contexts: OrderedDict[tuple[int, ...], tuple[Any, RuntimeCache | None]] = OrderedDict()
        self._fallback: CudaGraph | None = None
        self._notes: dict[tuple[int, ...], str] = {}
        self.device = device
        self.compute = device.stream()
        self.report = f"{PRODUCTS[target]} {self._module.__version__} {precision}"

    def prepare(self, inputs: Mapping[str, Spec], *, width: int, height: int) -> str | None:
        """Load the engine for inputs of these shapes and run it once; if that fails, prepare the fallback and report it.

        Raises ModelError with the command that builds the engine if the fallback is unavailable too.
        """
        shape = inputs["frame"].shape
        if shape not in self._contexts and shape not in self._notes:
            self.device.use()
            try:
                self._load(inputs, f"{width}x{height}")
            except MemoryShortError:
                self._contexts.pop(shape, None)
                raise  # smaller tiles may still fit in this runtime
            except ModelError as error:
                self._contexts.pop(shape, None)
                if Cuda().unavailable():
                    raise
                self._fallback = self._fallback or CudaGraph(self._path, self._precision, self.device, self.compute)
                self._notes[shape] = f"{self._fallback.report} runs in place of {self.report}: {error}"
        return self._notes.get(shape)

    def load_another(self, model: bytes) -> CudaGraph:
        """Load another graph on the same stream, with ONNX Runtime's CUDA provider, which needs no engine."""
        if reason := Cuda().unavailable():
            raise ModelError(reason)
        return CudaGraph(model, "fp32", self.device, self.compute)

    def enqueue(self, bound: Mapping[str, Bound]) -> None:
        """Enqueue one run of the engine for these shapes."""
        frame = bound["frame"].spec
        if frame.shape in self._notes:
            assert self._fallback is not None
            self._fallback.enqueue(bound)
            return
        context = self._context(frame)
        for name, each in bound.items():
            context.set_tensor_address(name, each.memory.address)
        if not context.execute_async_v3(self.compute.handle):
            raise ModelError(f"{self.report} cannot run its engine; its log explains why")

    def run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run once and wait. The caller owns the outputs."""
        inputs = {name: Spec(value.shape, value.dtype) for name, value in feeds.items()}
        _, height, width, _ = inputs["frame"].shape
        self.prepare(inputs, width=width, height=height)
        if inputs["frame"].shape in self._notes:
            assert self._fallback is not None
            return self._fallback.run(feeds)
        return run_once(self, feeds, self._outputs(self._context(inputs["frame"]).engine, inputs))

    def _context(self, frame: Spec) -> Any:  # noqa: ANN401
        """Return the context for a prepared shape, reloading it if it was evicted."""
        if frame.shape not in self._contexts:
            self._load({"frame": frame}, f"{frame.shape[2]}x{frame.shape[1]}")
        self._contexts.move_to_end(frame.shape)
        return self._contexts[frame.shape][0]

    def _load(self, inputs: Mapping[str, Spec], size: str) -> None:
        """Load an engine and compare its first run with the stored one. size: of the frames, WxH."""
        target, network = self._builder.target, self._path.stem
        _, height, width, _ = shape = inputs["frame"].shape
        path = cache_folder() / "engines" / file_name(network, self._precision, width, height, self._builder)
        command = f"upres export {network} --target {target} --precision {self._precision} --size {size}"
        shapes = {name: spec.shape for name, spec in inputs.items()}
        contents = Contents(self._graph_sha256, "", self._precision, shapes)
        blob, known = check.check(path, contents, self._builder, self._driver, command=command)
        check.check_validity(self._module, self._runtime, blob, engine=path, command=command)
        engine = self._runtime.deserialize_cuda_engine(blob)
        if engine is None:
            raise ModelError(f"{self.report} cannot load {path}, its log explains why; build it with: {command}")
        fixed = first_run.fixed_inputs({name: (spec.shape, spec.dtype) for name, spec in inputs.items()})
        outputs = self._outputs(engine, inputs)
        compare = partial(first_run.compare, path, known, fixed, lambda feeds: run_once(self, feeds, outputs))
        cache = self._open_context(shape, engine, path, known.sha256)
        try:
            compare()
        except ModelError:
            if cache is None or not cache.was_loaded:
                raise
            cache.forget()
            cache = self._open_context(shape, engine, path, known.sha256)
            compare()
        if cache is not None:
            cache.keep()

    def _open_context(self, shape: tuple[int, ...], engine: Any, path: Path, sha256: str) -> RuntimeCache | None:  # noqa: ANN401
        """Create the context of an engine, with its runtime cache if any; evict the least recently used one if necessary."""
        cache = None
        if runtime_cache.is_kept(self._module):
            gpu = self._driver.gpus[0].name
            cache = RuntimeCache(engine, runtime_cache.cache_file(path, sha256, gpu, self._driver.version))
        context = engine.create_execution_context() if cache is None else cache.context
        if context is None:
            raise MemoryShortError(f"the GPU has no memory left for {path}")
        self._contexts[shape] = context, cache
        if len(self._contexts) > MOST_LOADED:
            self.compute.record().wait()  # the evicted context may still be running
            self._contexts.popitem(last=False)
        return cache

    def _outputs(self, engine: Any, inputs: Mapping[str, Spec]) -> dict[str, Spec]:  # noqa: ANN401
        names = {engine.get_tensor_name(index) for index in range(engine.num_io_tensors)} - inputs.keys()
        kinds: dict[str, np.dtype[Any]] = {
            name: np.dtype(self._module.nptype(engine.get_tensor_dtype(name))) for name in names
        }
        return {name: Spec(tuple(engine.get_tensor_shape(name)), kinds[name]) for name in names}
