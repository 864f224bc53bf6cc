"""Conversion of a network's graph to one without padding, which does not compute the border that padding influences."""

from collections.abc import Container

import numpy as np

from . import parts
from .onnx_pb2 import GraphProto, ModelProto, NodeProto

POINTWISE = ("Cast", "Mul", "Add", "PRelu", "QuantizeLinear", "DequantizeLinear", "Clip", "Round", "Transpose")
BLOCKS = "SpaceToDepth"
REORDERING = "DepthToSpace"
ROWS, COLUMNS = 2, 3  # axes in NCHW


def unpadded(file: bytes, axes: Container[int]) -> bytes | None:
    """Return an ONNX file whose result is that of the given one without the border that padding along these axes influences.

    A padded graph computes this border in every layer, only for its caller to drop it. axes: ROWS, COLUMNS or both. Return None
    for graphs that do not consist of convolutions with stride 1 and operators on single values, with pixels rearranged at the end
    and, in graphs that work on blocks of pixels, at the beginning; their border is a multiple of the block's side.
    """
    model = ModelProto.FromString(file)
    try:
        _remove_padding(model.graph, [axis for axis in (ROWS, COLUMNS) if axis in axes])
    except ValueError:
        return None
    return parts.written(model)


def _remove_padding(graph: GraphProto, axes: list[int]) -> None:
    """Remove the padding. An operand that has lost less than the other one is cut. Raises ValueError if that is not supported."""
    # What tensors computed from the frame have lost so far, in pixels or blocks on each side.
    borders = {graph.input[0].name: 0}
    nodes: list[NodeProto] = []
    rearranged = False
    for node in graph.node:
        inputs = [name for name in node.input if name in borders]
        if inputs:
            border = max(borders[name] for name in inputs)
            if node.op_type == BLOCKS and border:
                raise ValueError("blocks of pixels in the middle are not supported")
            for place, name in enumerate(node.input):
                if name in borders and borders[name] < border:
                    nodes.append(_cut(graph, name, border - borders[name], axes))
                    node.input[place] = nodes[-1].output[0]
            borders[node.output[0]] = border + _lost(node, axes, rearranged=rearranged)
            rearranged = rearranged or node.op_type == REORDERING
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)


def _lost(node: NodeProto, axes: list[int], *, rearranged: bool) -> int:
    """Return by how many pixels an operator makes its result smaller on each side, now that it does not pad."""
    if node.op_type == "Conv" and not rearranged:
        return _remove_pads(node, axes)
    if node.op_type not in (*POINTWISE, BLOCKS, REORDERING) or (rearranged and node.op_type == "Add"):
        raise ValueError(f"{node.op_type} is not supported")
    return 0


def _remove_pads(node: NodeProto, axes: list[int]) -> int:
    """Remove the padding of a convolution and return its width. Raises ValueError unless the convolution preserves the size."""
    facts = parts.attributes(node)
    kernel = facts["kernel_shape"]
    pad = kernel[0] // 2
    if (
        kernel != [2 * pad + 1] * 2
        or facts.get("pads", [0] * 4) != [pad] * 4
        or any(step != 1 for name in ("strides", "dilations") for step in facts.get(name, []))
    ):
        raise ValueError(f"the convolution {node.name} is not supported")
    for attribute in node.attribute:
        if attribute.name == "pads":
            attribute.ints[:] = [0 if axis in axes else pad for axis in (ROWS, COLUMNS)] * 2
    return int(pad)


def _cut(graph: GraphProto, name: str, border: int, axes: list[int]) -> NodeProto:
    """Return an operator that cuts a border off a tensor."""
    numbers = {"starts": [border] * len(axes), "ends": [-border] * len(axes), "axes": axes}
    names = {kind: f"{name} {kind} {border}" for kind in numbers}
    for kind, values in numbers.items():
        graph.initializer.append(parts.tensor(np.array(values, np.int64), names[kind]))
    return parts.node("Slice", [name, *names.values()], [f"{name} without {border}"])
