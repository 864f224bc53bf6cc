"""RealESRGAN's family of session: every frame by itself, in as many tiles as it needs."""

from collections.abc import Iterator

import numpy as np
import psutil

from upres.engine.core.frame import Frame, Pixels
from upres.engine.runtime import base
from upres.engine.runtime.base import Graph, Quality

from . import manifest
from .manifest import Manifest
from .tiling import TILE_LIMIT, Plan, enlarge, enlarge_blended, plan

TILE_MEMORY = 2 << 30  # bytes one tile's activations may take, and at most a quarter of the machine's


class RealESRGAN:
    """A per-frame network that is ready to run."""

    warmup = 0

    def __init__(
        self, graph: Graph, facts: Manifest, *, tile_memory: int = TILE_MEMORY, tile_limit: int = TILE_LIMIT
    ) -> None:
        self._graph = graph
        self._facts = facts
        self._bytes_per_pixel = facts.bytes_per_pixel * graph.frugality
        self._tile_memory = tile_memory
        self._tile_limit = tile_limit
        self.name = facts.network
        self.scale = facts.scale
        self.report = graph.report

    def open(self, width: int, height: int) -> "PerFrame":
        """A session on frames of this size: any size from 1x1 up."""
        return PerFrame(self._graph, self._facts, self._plan(width, height))

    def memory(self, width: int, height: int) -> int:
        """Bytes a session needs at its peak: the largest tile's activations, and the whole result."""
        result = width * height * self.scale**2 * 3 * (1 if self._facts.exact_halo else 5)
        return int(self._plan(width, height).largest * self._bytes_per_pixel) + result

    def _plan(self, width: int, height: int) -> Plan:
        facts = self._facts
        return plan(
            _padded(width, facts.pad, facts.multiple),
            _padded(height, facts.pad, facts.multiple),
            halo=facts.halo,
            multiple=facts.multiple,
            limit=self._tile_limit,
            pixels=max(1, int(self._tile_memory / self._bytes_per_pixel)),
        )


def _padded(length: int, pad: int, multiple: int) -> int:
    return -(-(length + 2 * pad) // multiple) * multiple


class PerFrame:
    """A session that holds nothing between frames."""

    def __init__(self, graph: Graph, facts: Manifest, tiles: Plan) -> None:
        self._graph = graph
        self._facts = facts
        self._tiles = tiles

    def push(self, frame: Frame) -> Iterator[Frame]:
        """The same frame, larger."""
        yield Frame(self._enlarge(frame.pixels), frame.pts, frame.duration, frame.shot)

    def flush(self) -> Iterator[Frame]:
        """Nothing: no frame is held back."""
        return iter(())

    def close(self) -> None:
        """Nothing to let go of."""

    def _enlarge(self, pixels: Pixels) -> Pixels:
        facts = self._facts
        height, width, _ = pixels.shape
        tall, wide = _padded(height, facts.pad, facts.multiple), _padded(width, facts.pad, facts.multiple)
        if (tall, wide) != (height, width):
            borders = ((facts.pad, tall - height - facts.pad), (facts.pad, wide - width - facts.pad), (0, 0))
            pixels = np.pad(pixels, borders, mode="reflect")
        join = enlarge if facts.exact_halo else enlarge_blended
        result = join(pixels, self._tiles, facts.scale, self._run)
        top = facts.pad * facts.scale
        return result[top : top + height * facts.scale, top : top + width * facts.scale]

    def _run(self, tile: Pixels) -> Pixels:
        upscaled: Pixels = self._graph.run({"frame": np.ascontiguousarray(tile)[None]})["upscaled"][0]
        return upscaled


def load(
    network: str, *, quality: Quality = "high", runtime_name: str = "auto", threads: int | None = None
) -> RealESRGAN:
    """A network from the package or the cache; ModelError where it is not on this machine or its graph is damaged."""
    path, facts = manifest.find(network)
    manifest.check(path, facts)
    graph = base.load(path, quality=quality, runtime=runtime_name, threads=threads)
    return RealESRGAN(graph, facts, tile_memory=min(TILE_MEMORY, psutil.virtual_memory().total // 4))
