"""Conversion of a graph for frames of 8 bits a channel to one for 16 bits with the same weights; it needs no second file."""

from pathlib import Path

import numpy as np

from upres.engine.core.errors import ModelError
from upres.engine.core.frame import FULL
from upres.engine.graphs import parts
from upres.engine.graphs.onnx_pb2 import TensorProto


def sixteen_bits(path: Path) -> bytes:
    """Return a float32 graph from `frame` to `upscaled` as an ONNX file whose frames are uint16, white at FULL.

    Precision in between is unchanged. Raises ModelError unless the graph starts by dividing its input by 255, and ends by
    multiplying by 255, clipping and casting, as graphs on frames do.
    """
    model = parts.read(path)
    graph = model.graph
    numbers = {each.name: parts.array(each) for each in graph.initializer if not each.dims}
    scales = [name for name, value in numbers.items() if value in (np.float32(1 / 255), np.float32(255))]
    last = next((node for node in graph.node if graph.output[0].name in node.output), None)
    if {node.op_type for node in graph.node if set(scales) & {*node.input}} != {"Mul", "Clip"} or (
        len(scales) != 2 or last is None or last.op_type != "Cast"
    ):
        raise ModelError(
            f"{path} cannot take 16 bits a channel: it does not begin with 1/255 and end with 255 and a Cast"
        )
    for tensor in graph.initializer:
        if tensor.name in scales:
            value = FULL if numbers[tensor.name] > 1 else 1 / FULL
            tensor.CopyFrom(parts.tensor(np.array(value, np.float32), tensor.name))
    for end in (graph.input[0], graph.output[0]):
        end.type.tensor_type.elem_type = TensorProto.UINT16
    last.attribute[0].i = TensorProto.UINT16
    return parts.written(model)
