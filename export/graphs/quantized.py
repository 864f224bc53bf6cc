"""A float32 graph with some of its convolutions in int8, as QuantizeLinear and DequantizeLinear: every runtime reads it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

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
    model = onnx.load(path)
    values = {**constants(model), **changed}
    nodes = []
    for node in model.graph.node:
        if node.op_type == "Conv" and node.input[1] in rounded:
            before, parts = _in_int8(node, rounded[node.input[1]])
            nodes += before
            values |= parts
        if node.output[0] not in values:  # else a constant that was stored as float16
            nodes.append(node)
    used = dict.fromkeys(name for node in nodes for name in node.input if name in values)
    del model.graph.node[:], model.graph.initializer[:], model.graph.value_info[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(values[name]), name) for name in used)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def _in_int8(conv: onnx.NodeProto, layer: Rounded) -> tuple[list[onnx.NodeProto], dict[str, NDArray[Any]]]:
    """Let a convolution take its input and its weight rounded; give what comes before it, and the constants of that."""
    x, name = conv.input[0], conv.input[1]
    step, zero, levels, steps, zeros = (f"{name}.{part}" for part in ("step", "zero", "levels", "steps", "zeros"))
    conv.input[0], conv.input[1] = f"{name}.input", f"{name}.rounded"
    nodes = [
        helper.make_node("QuantizeLinear", [x, step, zero], [f"{name}.bytes"]),
        helper.make_node("DequantizeLinear", [f"{name}.bytes", step, zero], [conv.input[0]]),
        helper.make_node("DequantizeLinear", [levels, steps, zeros], [conv.input[1]], axis=0),
    ]
    parts: dict[str, NDArray[Any]] = {
        step: np.array(layer.step, np.float32),
        zero: np.array(0, np.int8),
        levels: layer.weight,
        steps: layer.steps,
        zeros: np.zeros(len(layer.steps), np.int8),
    }
    return nodes, parts


def constants(model: onnx.ModelProto) -> dict[str, NDArray[Any]]:
    """Get every constant by the name that operators take it by: what is stored as float16 in float32, after its Cast."""
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    casts = [node for node in model.graph.node if node.op_type == "Cast" and node.input[0] in stored]
    return stored | {node.output[0]: stored[node.input[0]].astype(np.float32) for node in casts}
