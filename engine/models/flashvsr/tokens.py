"""Extraction of tiles' tokens from those of whole frames, on the device: on a GPU they never pass through the host."""

from collections.abc import Mapping, Sequence

import numpy as np

from upres.engine.graphs import parts
from upres.engine.graphs.nodes import Nodes
from upres.engine.graphs.onnx_pb2 import TensorProto
from upres.engine.runtime.base import Tensor
from upres.engine.runtime.ring.device import Bound, DeviceGraph, Spec
from upres.engine.runtime.ring.resident import Resident

from .networks import FIRST
from .tiles import GRID, Tile


class TokenCut:
    """Extracts the tokens of tiles of one size from those of whole frames, on the device."""

    def __init__(self, graphs: Mapping[int, DeviceGraph], width: int) -> None:
        """graphs: from `cutting`, by number of latent frames. width: of the whole frames, in pixels."""
        self._graphs = graphs
        self._width = width
        self._resident = Resident(graphs[FIRST])
        self._places: dict[Tile, Bound] = {}
        self._part: Bound | None = None

    def __call__(self, tokens: Sequence[Bound], tile: Tile) -> Bound:
        """Return the tokens of a tile, (1, f * rows * columns, dim), from those of f latent frames; valid until the next call.

        f: 6 or 2, as many as a step has. Raises MemoryShortError if the device lacks memory for them.
        """
        if tile not in self._places:
            self._places[tile] = self._resident.upload(self._indices(tile))
        places, dim = self._places[tile], tokens[0].spec.shape[-1]
        if self._part is None:
            self._part = self._resident.allocate(_part(FIRST * places.spec.shape[0], dim))
        part = Bound(_part(len(tokens) * places.spec.shape[0], dim), self._part.memory)
        graph = self._graphs[len(tokens)]
        graph.device.use()
        graph.enqueue({"places": places, "part": part, **{f"tokens.{at}": each for at, each in enumerate(tokens)}})
        return part

    def close(self) -> None:
        """Release all memory. May be called twice."""
        self._resident.close()

    def _indices(self, tile: Tile) -> Tensor:
        """Return the indices of a tile's tokens among those of a whole frame."""
        rows = np.arange(tile.top // GRID, (tile.top + tile.height) // GRID, dtype=np.int64)
        columns = np.arange(tile.left // GRID, (tile.left + tile.width) // GRID, dtype=np.int64)
        places: Tensor = np.add.outer(rows * (self._width // GRID), columns).reshape(-1)
        return places


def _part(tokens: int, dim: int) -> Spec:
    return Spec((1, tokens, dim), np.dtype(np.float32))


def cutting(count: int) -> bytes:
    """Return the graph that gathers the same tokens from `count` latent frames and concatenates them.

    Inputs tokens.0 …: (1, tokens of a frame, dim) float32. Input places: int64 indices. Output part: (1, count * places, dim).
    """
    frames = [f"tokens.{at}" for at in range(count)]
    nodes = Nodes()
    nodes.add("Concat", *(nodes.add("Gather", frame, "places", axis=1) for frame in frames), name="part", axis=1)
    inputs = [parts.value("places", TensorProto.INT64, ["count"])]
    inputs += [parts.value(name, TensorProto.FLOAT, [1, "all", "dim"]) for name in frames]
    output = parts.value("part", TensorProto.FLOAT, [1, "tokens", "dim"])
    return nodes.file("cut", inputs, [output])
