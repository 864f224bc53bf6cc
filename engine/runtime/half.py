"""Conversion of a float32 graph to float16. The precision is set in the graph, where every runtime respects it."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from upres.engine.core.frame import FULL
from upres.engine.graphs import parts
from upres.engine.graphs.onnx_pb2 import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto

TO_255 = {"1 of 256": np.array(1 / 256, np.float32), "white": np.array(255, np.float32)}
REALS = {"Resize": (1, 2)}
"""Indices of the inputs that an operator requires in float32 regardless of its precision: region and scales."""


def in_precision(path: Path, precision: str) -> bytes:
    """Return a float32 graph as an ONNX file that computes in this precision, fp32 or fp16. The bytes are reproducible."""
    if precision == "fp32":
        return path.read_bytes()
    return parts.written(half(parts.read(path)))


def half(model: ModelProto) -> ModelProto:
    """Rewrite a graph in place so that everything between its inputs and outputs is float16; return it.

    Weights stored in float16 lose their Cast to float32; other weights are rounded. Inputs and outputs keep their types, so the
    graph itself must cast them, as graphs on frames do. Frames of uint16 are first scaled to 0 … 255 in float32, because float16
    can represent neither their largest values nor the inverse of those. Raises ValueError for a weight outside float16's range.
    """
    graph = model.graph
    kept, wide = set(_float32_inputs(graph)), {value.name for value in graph.input if _is_uint16(value)}
    if wide:
        _divide_by_255(graph)
    stored = {tensor.name for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT16}
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and tensor.name not in kept:
            tensor.CopyFrom(parts.tensor(_rounded(tensor), tensor.name))
    renamed, nodes = {}, []
    for node in graph.node:
        if node.op_type == "Cast" and node.attribute[0].i == TensorProto.FLOAT:
            if node.input[0] in stored:
                renamed[node.output[0]] = node.input[0]
                continue
            if node.input[0] in wide:
                nodes += _scale_to_255(node)
                continue
            node.attribute[0].i = TensorProto.FLOAT16
        node.input[:] = [renamed.get(name, name) for name in node.input]
        nodes.append(node)
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    if wide:
        graph.initializer.extend(parts.tensor(value, name) for name, value in TO_255.items())
    return model


def _is_uint16(value: ValueInfoProto) -> bool:
    return value.type.tensor_type.elem_type == TensorProto.UINT16


def _divide_by_255(graph: GraphProto) -> None:
    """Make a graph that divides its frame by FULL divide it by 255 instead."""
    for tensor in graph.initializer:
        if not tensor.dims and parts.array(tensor) == np.float32(1 / FULL):
            tensor.CopyFrom(parts.tensor(np.array(1 / 255, np.float32), tensor.name))


def _scale_to_255(cast: NodeProto) -> list[NodeProto]:
    """Return nodes that cast a uint16 frame, white at FULL, to float16 from 0 to 255, clipping values above white."""
    names = [f"{cast.output[0]} {step}" for step in ("in 32 bits", *TO_255)]
    cast_to = parts.node("Cast", cast.input, names[:1], to=TensorProto.FLOAT)
    scaled, cut = (
        parts.node(kind, [before, name], [after])
        for kind, before, name, after in zip(("Mul", "Min"), names, TO_255, names[1:], strict=False)
    )
    return [cast_to, scaled, cut, parts.node("Cast", names[2:], cast.output, to=TensorProto.FLOAT16)]


def _float32_inputs(graph: GraphProto) -> Iterator[str]:
    for node in graph.node:
        yield from (node.input[place] for place in REALS.get(node.op_type, ()) if place < len(node.input))


def _rounded(tensor: TensorProto) -> NDArray[np.float16]:
    with np.errstate(over="ignore"):
        values: NDArray[np.float16] = parts.array(tensor).astype(np.float16)
    if not np.isfinite(values).all():
        raise ValueError(f"{tensor.name} holds a value outside the range of float16")
    return values
