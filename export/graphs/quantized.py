"""Conversion of convolutions of a float32 graph to int8, as QuantizeLinear and DequantizeLinear, which all runtimes support."""

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
    """A convolution in int8. weight: (outputs, inputs, k, k) in steps. steps: step size of the weights of each output.

    step: step size of the input, which is symmetric about zero.
    """

    weight: NDArray[np.int8]
    steps: Array
    step: float


def quantized(path: Path, changed: Mapping[str, Array], rounded: Mapping[str, Rounded]) -> bytes:
    """Return a graph with changed constants and with convolutions in int8; the same arguments give the same bytes.

    changed: float32 values, by the name that operators refer to. rounded: convolutions by the name of their weight.
    """
    model = parts.read(path)
    values = {**constants(model), **changed}
    nodes = []
    for node in model.graph.node:
        if node.op_type == "Conv" and node.input[1] in rounded:
            before, added = _in_int8(node, rounded[node.input[1]])
            nodes += before
            values |= added
        if node.output[0] not in values:  # else it is the Cast of a constant stored as float16
            nodes.append(node)
    used = dict.fromkeys(name for node in nodes for name in node.input if name in values)
    del model.graph.node[:], model.graph.initializer[:], model.graph.value_info[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(parts.tensor(np.asarray(values[name]), name) for name in used)
    return parts.written(model)


def _in_int8(conv: NodeProto, layer: Rounded) -> tuple[list[NodeProto], dict[str, NDArray[Any]]]:
    """Connect a convolution to a quantized input and weight; returns the nodes to insert before it, and their constants."""
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
    """Return every constant by the name that operators refer to; constants stored as float16 are returned as float32."""
    stored = {tensor.name: parts.array(tensor) for tensor in model.graph.initializer}
    casts = [node for node in model.graph.node if node.op_type == "Cast" and node.input[0] in stored]
    return stored | {node.output[0]: stored[node.input[0]].astype(np.float32) for node in casts}
