"""A float32 graph with some of its convolutions in int8, as QuantizeLinear and DequantizeLinear: every runtime reads it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upres.engine.graphs import parts
from upres.engine.graphs.onnx_pb2 import ModelProto, NodeProto

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Rounded:
    """A convolution in int8. weight: (outputs, inputs, k, k) in steps. steps: of the weights of each output.

    step: of what goes in, which is symmetric about zero.
    """

    weight: NDArray[np.int8]
    steps: Array
    step: float


def quantized(path: Path, changed: Mapping[str, Array], rounded: Mapping[str, Rounded]) -> bytes:
    """Read a graph and write it with other constants and with convolutions in int8; the same bytes every time.

    changed: float32 values, by the name that operators take them by. rounded: by the name of the weight.
    """
    model = parts.read(path)
    values = {**constants(model), **changed}
    nodes = []
    for node in model.graph.node:
        if node.op_type == "Conv" and node.input[1] in rounded:
            before, added = _in_int8(node, rounded[node.input[1]])
            nodes += before
            values |= added
        if node.output[0] not in values:  # else a constant that was stored as float16
            nodes.append(node)
    used = dict.fromkeys(name for node in nodes for name in node.input if name in values)
    del model.graph.node[:], model.graph.initializer[:], model.graph.value_info[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(parts.tensor(np.asarray(values[name]), name) for name in used)
    return parts.written(model)


def _in_int8(conv: NodeProto, layer: Rounded) -> tuple[list[NodeProto], dict[str, NDArray[Any]]]:
    """Let a convolution take its input and its weight rounded; give what comes before it, and the constants of that."""
    x, name = conv.input[0], conv.input[1]
    step, zero, levels, steps, zeros = (f"{name}.{part}" for part in ("step", "zero", "levels", "steps", "zeros"))
    conv.input[0], conv.input[1] = f"{name}.input", f"{name}.rounded"
    nodes = [
        parts.node("QuantizeLinear", [x, step, zero], [f"{name}.bytes"]),
        parts.node("DequantizeLinear", [f"{name}.bytes", step, zero], [conv.input[0]]),
        parts.node("DequantizeLinear", [levels, steps, zeros], [conv.input[1]], axis=0),
    ]
    added: dict[str, NDArray[Any]] = {
        step: np.array(layer.step, np.float32),
        zero: np.array(0, np.int8),
        levels: layer.weight,
        steps: layer.steps,
        zeros: np.zeros(len(layer.steps), np.int8),
    }
    return nodes, added


def constants(model: ModelProto) -> dict[str, NDArray[Any]]:
    """Get every constant by the name that operators take it by: what is stored as float16 in float32, after its Cast."""
    stored = {tensor.name: parts.array(tensor) for tensor in model.graph.initializer}
    casts = [node for node in model.graph.node if node.op_type == "Cast" and node.input[0] in stored]
    return stored | {node.output[0]: stored[node.input[0]].astype(np.float32) for node in casts}
