"""Tokens of whole frames cut into those of tiles where they lie: on a GPU they never pass through the host."""

from collections.abc import Sequence

import numpy as np

from upres.engine.graphs import parts
from upres.engine.graphs.onnx_pb2 import TensorProto
from upres.engine.runtime.base import DeviceKind
from upres.engine.runtime.ort import OnDevice, OnnxRuntimeGraph

from .networks import FIRST, NEXT
from .tiles import GRID, Tile

OPSET, IR_VERSION = 17, 8


class TokenCut:
    """Cuts tokens on a device."""

    def __init__(self, device: DeviceKind, threads: int) -> None:
        self._graphs = {count: OnnxRuntimeGraph(cutting(count), threads, device=device) for count in (FIRST, NEXT)}

    def __call__(self, tokens: Sequence[OnDevice], width: int, tile: Tile) -> OnDevice:
        """Cut the tokens of a tile, (1, f * rows * columns, dim), from those of f latent frames of this width, in pixels.

        f: 6 or 2, as many as a step has.
        """
        rows = np.arange(tile.top // GRID, (tile.top + tile.height) // GRID, dtype=np.int64)
        columns = np.arange(tile.left // GRID, (tile.left + tile.width) // GRID, dtype=np.int64)
        places = np.add.outer(rows * (width // GRID), columns).reshape(-1)
        frames = {f"tokens.{at}": part for at, part in enumerate(tokens)}
        return self._graphs[len(tokens)].run_bound({"places": places}, frames, {}, left=("part",))["part"]


def cutting(count: int) -> bytes:
    """Write the graph that picks the same tokens of so many latent frames and puts them one behind the other.

    tokens.0 …: (1, tokens of a frame, dim) float32. places: int64, which of them. part: (1, count * places, dim).
    """
    frames = [f"tokens.{at}" for at in range(count)]
    picked = [f"picked.{at}" for at in range(count)]
    nodes = [
        parts.node("Gather", [frame, "places"], [part], axis=1) for frame, part in zip(frames, picked, strict=True)
    ]
    nodes.append(parts.node("Concat", picked, ["part"], axis=1))
    inputs = [parts.value("places", TensorProto.INT64, ["count"])]
    inputs += [parts.value(name, TensorProto.FLOAT, [1, "all", "dim"]) for name in frames]
    output = parts.value("part", TensorProto.FLOAT, [1, "tokens", "dim"])
    graph = parts.graph("cut", nodes, inputs, [output])
    return parts.written(parts.model(graph, opset=OPSET, ir_version=IR_VERSION))
