"""Analysis of a graph: its receptive field, its multiply-adds and its memory."""

from dataclasses import dataclass
from fractions import Fraction
from math import ceil, prod
from typing import Any

from upres.engine.graphs.onnx_pb2 import ModelProto
from upres.engine.graphs.parts import attributes

SIDE = 64
"""The side of the frame that shapes are inferred for; it affects only rounding."""
BYTES_MEASURED = 4
"""Upper bound of the ratio of measured memory to live bytes: 3.8 on ONNX Runtime, whose arena doubles; 1.5 on OpenVINO."""
BYTES = {"tensor(uint8)": 1, "tensor(float)": 4}


@dataclass(frozen=True, slots=True)
class Facts:
    """Facts about a graph. halo: input pixels on each side that affect an output pixel. The others are per input pixel."""

    halo: int
    flops_per_pixel: int
    bytes_per_pixel: int


@dataclass(frozen=True, slots=True)
class _Value:
    shape: tuple[int, ...]
    bytes: int


def analyze(graph: bytes) -> Facts:
    """Compute the facts of a graph written by `FrameGraphWriter`."""
    model = ModelProto.FromString(graph)
    values = _values(model)
    return Facts(_halo(model, values), _flops(model, values), BYTES_MEASURED * _alive(model, values))


def _values(model: ModelProto) -> dict[str, _Value]:
    """Infer, with ONNX Runtime, shape and size of every tensor that depends on the frame, for a frame of SIDE x SIDE."""
    sized = ModelProto()
    sized.CopyFrom(model)
    for dimension in sized.graph.input[0].type.tensor_type.shape.dim[1:3]:
        dimension.dim_value = SIDE
    del sized.graph.output[:]
    for node in sized.graph.node:
        for name in node.output:
            sized.graph.output.add(name=name)
    session = _unoptimized(sized.SerializeToString())
    sizes = {
        each.name: _Value(tuple(each.shape), prod(each.shape) * BYTES.get(each.type, 4))
        for each in (*session.get_inputs(), *session.get_outputs())
    }
    dependent = {model.graph.input[0].name}
    for node in model.graph.node:
        if dependent & set(node.input):
            dependent.update(node.output)
    return {name: sizes[name] for name in dependent}


def _unoptimized(graph: bytes) -> Any:  # noqa: ANN401 - ONNX Runtime has no types
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def _halo(model: ModelProto, values: dict[str, _Value]) -> int:
    """Sum along the longest path through the graph: a k x k convolution adds (k - 1) / 2 of its own pixels."""
    reach = {model.graph.input[0].name: Fraction(0)}
    for node in model.graph.node:
        inputs = [name for name in node.input if name in reach]
        if not inputs:
            continue
        further = Fraction(0)
        if node.op_type == "Conv":
            kernel = attributes(node)["kernel_shape"][0]
            further = Fraction(kernel // 2 * SIDE, values[inputs[0]].shape[2])
        elif node.op_type == "SpaceToDepth":
            further = Fraction(attributes(node)["blocksize"] - 1)
        reach[node.output[0]] = max(reach[name] for name in inputs) + further
    return ceil(reach[model.graph.output[0].name])


def _flops(model: ModelProto, values: dict[str, _Value]) -> int:
    """Count two operations for each multiply-add of the convolutions; all others are negligible."""
    total = 0
    for node in model.graph.node:
        if node.op_type == "Conv":
            kernel = attributes(node)["kernel_shape"][0]
            inputs = values[node.input[0]].shape[1] // attributes(node)["group"]
            total += 2 * inputs * kernel**2 * prod(values[node.output[0]].shape)
    return round(total / SIDE**2)


def _alive(model: ModelProto, values: dict[str, _Value]) -> int:
    """Compute the peak of live bytes per pixel if tensors are computed in order and freed after their last use."""
    last = {name: index for index, node in enumerate(model.graph.node) for name in node.input}
    alive = {model.graph.input[0].name}
    peak = 0
    for index, node in enumerate(model.graph.node):
        alive.update(name for name in node.output if name in values)
        peak = max(peak, sum(values[name].bytes for name in alive))
        alive = {name for name in alive if last.get(name, index + 1) > index}
    return ceil(peak / SIDE**2)
