"""Conversion of ONNX graphs to ncnn layers, limited to the operators of networks that upscale every frame independently.

Formats: ncnn's wiki, "param and model file structure" and "operation param weight table".
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upres.engine.core.errors import ModelError
from upres.engine.graphs import parts
from upres.engine.graphs.onnx_pb2 import NodeProto

MAGIC = 7767517
IN_FLOAT32 = np.uint32(0).tobytes()  # precedes the weights of a convolution
FROM_FRAME, TO_FRAME = ["Cast", "Transpose"], ["Transpose", "Cast"]
"""Operators that convert a frame to planes and back; they have no layers, because `NcnnGraph` performs the conversion."""
REPEATED = {"mode": b"nearest", "coordinate_transformation_mode": b"asymmetric", "nearest_mode": b"floor"}

Reals = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Network:
    """A graph as layers. param: text of a `.param` file. weights: bytes of a `.bin` file. frame, upscaled: input and output blob.

    Both hold levels, 0 to 255, in three planes.
    """

    param: str
    weights: bytes
    frame: str
    upscaled: str


def convert(path: Path) -> Network:
    """Convert a graph to layers. Raises ModelError if it contains anything unsupported."""
    try:
        graph = parts.read(path).graph
        constants = {tensor.name: parts.array(tensor).astype(np.float32) for tensor in graph.initializer}
    except Exception as error:
        raise ModelError(f"{path} cannot be read: {error}") from error
    nodes = []
    for node in graph.node:
        if node.op_type == "Cast" and node.input[0] in constants:
            constants[node.output[0]] = constants[node.input[0]]
        else:
            nodes.append(node)
    kinds = [node.op_type for node in nodes]
    if kinds[:2] != FROM_FRAME or kinds[-2:] != TO_FRAME:
        raise ModelError(f"{path} is not a graph from a frame to a frame; ncnn supports no others here")
    frame, upscaled, nodes = nodes[1].output[0], nodes[-2].input[0], nodes[2:-2]
    writer = _Writer(nodes)
    writer.add(_Layer("Input", {}), [], frame)
    for node in nodes:
        inputs = [name for name in node.input if name and name not in constants]
        layer = _layer(node, len(inputs), [constants[name] for name in node.input if name in constants])
        if layer is None:
            raise ModelError(f"{path} cannot run on ncnn: {node.name} is a {node.op_type}, which is not supported here")
        writer.add(layer, inputs, node.output[0])
    return Network(writer.param(), b"".join(writer.weights), frame, upscaled)


@dataclass(frozen=True, slots=True)
class _Layer:
    """A layer: its ncnn type, its numbered parameters, and its weights in the format of a `.bin` file."""

    type: str
    settings: Mapping[int, float]
    weights: bytes = b""


class _Writer:
    """Serializes layers in order. A blob has one reader in ncnn, so a value with several readers is split."""

    def __init__(self, nodes: Sequence[NodeProto]) -> None:
        self.weights: list[bytes] = []
        self._lines: list[str] = []
        self._count = 0
        self._readers = Counter(name for node in nodes for name in node.input)
        self._blobs: dict[str, list[str]] = {}
        """Unread blobs of each value; each can be read once."""

    def add(self, layer: _Layer, inputs: Sequence[str], output: str) -> None:
        """Add a layer that computes a value from other values."""
        self._line(layer, [self._blobs[name].pop() for name in inputs], [output])
        self.weights.append(layer.weights)
        self._blobs[output] = [output]
        if (readers := self._readers[output]) > 1:
            self._blobs[output] = [f"{output}/{reader}" for reader in range(readers)]
            self._line(_Layer("Split", {}), [output], self._blobs[output])

    def param(self) -> str:
        """Return the text of the `.param` file: a header and the layers."""
        return "\n".join([str(MAGIC), f"{len(self._lines)} {self._count}", *self._lines, ""])

    def _line(self, layer: _Layer, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        settings = (f"{number}={value}" for number, value in layer.settings.items())
        counts = f"{len(inputs)} {len(outputs)}"
        self._lines.append(" ".join((layer.type, f"layer_{len(self._lines)}", counts, *inputs, *outputs, *settings)))
        self._count += len(outputs)


def _layer(node: NodeProto, inputs: int, constants: list[Reals]) -> _Layer | None:
    """Convert an operator; return None if the operator or one of its attributes is unsupported."""
    settings = parts.attributes(node)
    match node.op_type, inputs, constants:
        case "Conv", 1, [weight, *bias]:
            return _convolution(settings, weight, bias)
        case "PRelu", 1, [slopes] if slopes.shape == (slopes.size, 1, 1):
            return _Layer("PReLU", {0: slopes.size}, slopes.tobytes())
        case "LeakyRelu", 1, []:
            return _Layer("ReLU", {0: settings["alpha"]})
        case "Add", 2, []:
            return _Layer("BinaryOp", {0: 0})
        case "Mul", 1, [factor] if factor.size == 1:
            return _Layer("BinaryOp", {0: 2, 1: 1, 2: float(factor)})
        case "Clip", 1, [least, most]:
            return _Layer("Clip", {0: float(least), 1: float(most)})
        case "Round", 1, []:
            return _Layer("UnaryOp", {0: 18})
        case "Concat", _, [] if settings == {"axis": 1}:
            return _Layer("Concat", {0: 0})
        case "DepthToSpace", 1, [] if settings["mode"] == b"CRD":
            return _Layer("PixelShuffle", {0: settings["blocksize"]})
        case "SpaceToDepth", 1, []:
            return _Layer("Reorg", {0: settings["blocksize"], 1: 1})
        case "Resize", 1, [scales] if settings == REPEATED and scales[0] == scales[1] == 1:
            return _Layer("Interp", {0: 1, 1: float(scales[2]), 2: float(scales[3])})
    return None


def _convolution(attributes: Mapping[str, Any], weight: Reals, bias: Sequence[Reals]) -> _Layer | None:
    """Convert a convolution that preserves the size; return None for others."""
    size = weight.shape[2]
    if attributes != {"kernel_shape": [size, size], "pads": [size // 2] * 4, "group": 1}:
        return None
    settings = {0: len(weight), 1: size, 4: size // 2, 5: len(bias), 6: weight.size}
    return _Layer("Convolution", settings, b"".join((IN_FLOAT32, weight.tobytes(), *(each.tobytes() for each in bias))))
