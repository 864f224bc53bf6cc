"""Networks that upscale every frame independently, in as many tiles as memory requires."""

import logging
import math
import tempfile
from collections.abc import Callable, Collection
from copy import copy
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from weakref import WeakValueDictionary

import numpy as np
import psutil

from upres.engine.core.errors import ModelError
from upres.engine.core.frame import Layout
from upres.engine.core.model import Session
from upres.engine.graphs.unpadded import unpadded
from upres.engine.machine import device_memory
from upres.engine.runtime import registry as runtimes
from upres.engine.runtime.base import Graph, Runtime
from upres.engine.runtime.ring.device import DeviceGraph
from upres.engine.runtime.sixteen_bits import sixteen_bits

from . import manifest, tuned
from .in_flight import DEPTH, InFlightSession
from .manifest import Installed, Manifest, Variant
from .padding import cut_padded, padded
from .planar import BYTES_IN, BYTES_UPSCALED, COLORS_TOO, PlanarGraph, Planes, takes_planes
from .sequential import PerFrameSession
from .tensors import RGB, Tensors
from .tiling import TILE_LIMIT, Plan
from .tuned import Choice
from .unchanged import Axes, Parts, Unpadded

TILE_MEMORY = 2 << 30  # limit in bytes on one tile's activations on a CPU; a quarter of the machine's memory also is
TRIAL_SIDE = 128  # width and height in pixels of the frame that a CPU's speed is measured on

logger = logging.getLogger(__name__)


class PerFrameModel:
    """Per-frame network that is ready to run."""

    warmup = 0

    def __init__(
        self,
        graph: Graph,
        facts: Manifest,
        *,
        variant: Variant | None = None,
        tile_memory: int = TILE_MEMORY,
        tile_limit: int = TILE_LIMIT,
        why: str | None = None,
        deepened: "Callable[[], PerFrameModel] | None" = None,
        is_deep: bool = False,
        unpadded: Unpadded | None = None,
    ) -> None:
        """Wrap a loaded graph.

        variant: the manifest's variant that it is; the float32 one by default. tile_memory: limit in bytes on a tile's memory on
        the device that computes it. tile_limit: limit in pixels on a tile's longer side. why: reason for the choice of runtime,
        if it was measured. deepened: loads the same network for uint16 frames. is_deep: whether this is the one for uint16.
        unpadded: loads the same network without padding along some axes.
        """
        self._graph = graph
        self._facts = facts
        self._bytes_per_pixel = facts.bytes_per_pixel * graph.memory_factor
        self._tile_memory = tile_memory
        self._tile_limit = tile_limit
        self._parts = Parts(graph, facts, unpadded, deep=is_deep)
        self._deepened = deepened
        self._is_deep = is_deep
        # Color conversion graphs keep device memory for their next run, so all sessions with the same colors share one.
        self._on_planes: WeakValueDictionary[Layout, PlanarGraph] = WeakValueDictionary()
        self.name = facts.network
        self.scale = facts.scale
        self.planar = False
        self.report = graph.report if tile_limit == TILE_LIMIT else f"{graph.report}, tiles up to {tile_limit}"
        self.why = why
        self.digest = facts.graph_sha256 if variant is None else variant.sha256

    def open(self, width: int, height: int) -> Session:
        """Open a session for frames of this size, from 1x1 up."""
        if isinstance(self._graph, DeviceGraph):
            tensors: Tensors = RGB(self._facts, width, height, np.dtype(np.uint16 if self._is_deep else np.uint8))
            if self.planar:
                tensors = Planes(self._facts, width, height)
            return InFlightSession(self._graph, self.name, tensors, partial(self._plan, width, height), width, height)
        return PerFrameSession(self._graph, self._facts, self._tiles, self._parts)

    def deep(self) -> "PerFrameModel":
        """Return the same network for uint16 frames, in float32. Raises ModelError if it cannot be loaded."""
        return self if self._is_deep else self._deep

    @cached_property
    def _deep(self) -> "PerFrameModel":
        if self._deepened is None:
            raise ModelError(f"{self.name} was not loaded by name, so it only supports 8 bits a channel")
        return self._deepened()

    def on_planes(self, layout: Layout, width: int, height: int) -> "PerFrameModel | None":
        """Return the same network for planar 8-bit 4:2:0 frames of this size and layout.

        Return None if it runs on the CPU, where swscale converts colors faster, or if its device cannot convert them.
        """
        graph = self._graph
        if (
            self.planar
            or self._is_deep
            or not isinstance(graph, DeviceGraph)
            or not takes_planes(self._facts, width, height)
        ):
            return None
        try:
            planar = self._on_planes.get(layout) or PlanarGraph(graph, layout)
        except ModelError as error:
            logger.info("%s takes RGB: %s", self.name, error)
            return None
        self._on_planes[layout] = planar
        model = copy(self)
        model._graph = planar
        model.planar = True
        model.report = f"{self.report}{COLORS_TOO}"
        return model

    def memory(self, width: int, height: int) -> int:
        """Return the peak main memory of a session in bytes: its results, and one tile's activations or copies."""
        pixel = self._frame_bytes
        result, tile = width * height * self.scale**2 * pixel, self._plan(width, height).largest
        if isinstance(self._graph, DeviceGraph):
            frames = 1 + math.ceil(DEPTH / self._plan(width, height).count)  # results being assembled
            copies = DEPTH * tile * pixel * (1 + self.scale**2)
            return int(frames * result * (1 if self._facts.exact_halo else 5) + copies)
        # The previous result and its input frame are kept, to reuse the parts that do not change.
        results = result * (2 if self._facts.exact_halo else 6)
        return int(tile * self._bytes_per_pixel + results) + self._parts.memory

    @property
    def _frame_bytes(self) -> float:
        """Bytes per pixel of a frame."""
        return 1.5 if self.planar else 6 if self._is_deep else 3

    @property
    def _tile_bytes(self) -> float:
        """Bytes per pixel of a tile on the device that computes it; on a GPU, including tiles in flight."""
        if not isinstance(self._graph, DeviceGraph):
            return self._bytes_per_pixel
        upscaled = self.scale**2
        colors = BYTES_IN + BYTES_UPSCALED * upscaled if self.planar else 0
        return self._bytes_per_pixel + colors + DEPTH * self._frame_bytes * (1 + upscaled)

    @property
    def trial_side(self) -> int | None:
        """Side of the frame to measure speed on; None on a GPU, which only a whole frame fully occupies."""
        return None if isinstance(self._graph, DeviceGraph) else TRIAL_SIDE

    def _plan(self, width: int, height: int, pixels: int | None = None) -> Plan:
        return self._tiles(padded(width, self._facts), padded(height, self._facts), pixels)

    def _tiles(self, width: int, height: int, pixels: int | None = None) -> Plan:
        """Plan the tiles of a padded frame. pixels: limit per tile, if lower than what memory allows."""
        limit = max(1, int(self._tile_memory / self._tile_bytes))
        on_device = isinstance(self._graph, DeviceGraph)
        return cut_padded(
            self._facts, width, height, self._tile_limit, on_device=on_device, pixels=min(limit, pixels or limit)
        )


def installed(network: str) -> Installed | None:
    """Describe a network on this machine. Return None if it is not installed or its manifest cannot be read."""
    try:
        _, facts = manifest.find(network)
    except ModelError:
        return None
    return Installed(facts.scale, facts.halo, facts.psnr)


def load(
    network: str,
    *,
    scale: int | None = None,
    quality: str = "high",
    runtime: str = "auto",
    resumed: Collection[str] = (),
    frame: tuple[int, int] | None = None,
) -> PerFrameModel:
    """Load a network from the package or the cache. Raises ModelError if it is not installed or its graph is damaged.

    scale: ignored, because networks of this family have a fixed scale. runtime: `auto` selects the fastest according to a current
    table of `upres tune`, and the preferred runtime if there is none. resumed, frame: as in `tuned.pick`.
    """
    if runtime == runtimes.AUTO and (picked := tuned.pick(network, quality, resumed, frame)):
        choice, why = picked
        return load_choice(network, choice, why=why)
    chosen = runtimes.choose(runtime)
    return _load(network, chosen, quality, chosen.precisions())


def load_choice(network: str, choice: Choice, *, why: str | None = None) -> PerFrameModel:
    """Load a network to run as the choice specifies. Raises ModelError as `load` does. why: reason for the choice."""
    return _load(network, runtimes.choose(choice.runtime), "fast", (choice.precision,), tile=choice.tile, why=why)


def _load(
    network: str,
    runtime: Runtime,
    quality: str,
    precisions: tuple[str, ...],
    *,
    tile: int = TILE_LIMIT,
    why: str | None = None,
) -> PerFrameModel:
    path, facts = manifest.find(network)
    variant = facts.variant(quality, precisions)
    graph = path.with_name(variant.file)
    manifest.check(graph, variant)
    loaded = runtime.load(graph, variant.precision)
    return PerFrameModel(
        loaded,
        facts,
        tile_memory=_tile_memory(runtime),
        tile_limit=tile,
        variant=variant,
        why=why,
        unpadded=partial(_load_unpadded, runtime, variant.precision, graph),
        deepened=partial(_load_deep, network, runtime, tile, "fp16" if variant.precision == "fp16" else "fp32"),
    )


def _load_deep(network: str, runtime: Runtime, tile: int, precision: str) -> PerFrameModel:
    """Load a network for uint16 frames in float32 or float16; bfloat16 has too few levels to exceed 8 bits.

    TensorRT does not support uint16, so ONNX Runtime is used on every GPU.
    """
    path, facts = manifest.find(network)
    exact = facts.variant("exact", ("fp32",))
    manifest.check(path, exact)
    runtime = runtimes.choose("cuda") if runtime.device == "cuda" else runtime
    loaded = _load_bytes(sixteen_bits(path), runtime, precision)
    variant = replace(exact, precision=precision, sha256=f"{exact.sha256} in 16 bits")
    return PerFrameModel(
        loaded, facts, tile_memory=_tile_memory(runtime), tile_limit=tile, variant=variant, is_deep=True
    )


def _load_unpadded(runtime: Runtime, precision: str, path: Path, axes: Axes) -> Graph | None:
    """Load a graph without padding along these axes. Return None if that is impossible."""
    try:
        model = unpadded(path.read_bytes(), axes)
        return None if model is None else _load_bytes(model, runtime, precision)
    except (ModelError, OSError) as error:
        logger.info("parts of frames are upscaled with padding: %s", error)
        return None


def _load_bytes(model: bytes, runtime: Runtime, precision: str) -> Graph:
    with tempfile.TemporaryDirectory(prefix="upres-") as folder:
        path = Path(folder) / "network.onnx"
        path.write_bytes(model)
        return runtime.load(path, precision)


def _tile_memory(runtime: Runtime) -> int:
    """Return the limit in bytes on a tile's activations: on a GPU, half of the memory that is free there now."""
    if runtime.device == "cuda":
        return device_memory.free() // 2
    return min(TILE_MEMORY, psutil.virtual_memory().total // 4)
