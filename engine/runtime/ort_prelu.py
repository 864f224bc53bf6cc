"""PReLU rewritten for ONNX Runtime on x86, where PReLU would break up the blocked layout in which convolutions are fastest."""

import platform
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from upres.engine.graphs import parts
from upres.engine.graphs.onnx_pb2 import ModelProto, NodeProto, TensorProto


def for_onnxruntime(path: Path) -> Path | bytes:
    """Return the graph as ONNX Runtime's CPU provider runs it fastest: with split PReLUs on x86, otherwise unchanged."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return path
    model = parts.read(path)
    return split(model) if any(node.op_type == "PRelu" for node in model.graph.node) else path


def split(model: ModelProto) -> bytes:
    """Rewrite every per-channel PReLU as `relu(x) - slopes · relu(-x)`, which is 1.3 to 1.4 times as fast and bit-identical.

    The products are depthwise convolutions: ONNX Runtime keeps the blocked layout through convolutions, ReLU and additions.
    """
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes = []
    for node in model.graph.node:
        constant = constants.get(node.input[1]) if node.op_type == "PRelu" else None
        if constant is None or constant.dims[1:] != [1, 1]:
            nodes.append(node)
            continue
        slopes = parts.array(constant)
        for name, kernel in (("mirror", np.full_like(slopes, -1)), ("slopes", -slopes)):
            model.graph.initializer.append(_kernel(f"{node.name}.{name}", kernel))
        nodes += _nodes(node, slopes.size)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model.SerializeToString()


def _nodes(node: NodeProto, channels: int) -> list[NodeProto]:
    x, name = node.input[0], node.name
    steps: tuple[tuple[str, list[str], str, dict[str, int]], ...] = (
        ("Relu", [x], f"{name}/positive", {}),
        ("Conv", [x, f"{name}.mirror"], f"{name}/mirrored", {"group": channels}),
        ("Relu", [f"{name}/mirrored"], f"{name}/negative", {}),
        ("Conv", [f"{name}/negative", f"{name}.slopes"], f"{name}/sloped", {"group": channels}),
        ("Add", [f"{name}/sloped", f"{name}/positive"], node.output[0], {}),
    )
    return [parts.node(kind, inputs, [output], **attributes) for kind, inputs, output, attributes in steps]


def _kernel(name: str, slopes: NDArray[np.float32]) -> TensorProto:
    return parts.tensor(slopes.reshape(-1, 1, 1, 1), name)
