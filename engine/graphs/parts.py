"""The parts of ONNX graphs, made and read with the format's own protobuf schema: the `onnx` package is 26 MB that no run needs."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .onnx_pb2 import AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, ValueInfoProto

Attribute = int | float | str | Sequence[int]
Shape = Sequence[int | str]
TYPES: dict[str, int] = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "bfloat16": TensorProto.BFLOAT16,
    "int64": TensorProto.INT64,
    "int32": TensorProto.INT32,
    "int8": TensorProto.INT8,
    "uint16": TensorProto.UINT16,
    "uint8": TensorProto.UINT8,
    "bool": TensorProto.BOOL,
}
"""What tensors can hold here: NumPy's name and ONNX's number. bfloat16 wants ml_dtypes imported."""
NAMES = {number: name for name, number in TYPES.items()}


def read(path: Path) -> ModelProto:
    """Read a graph's file; weights in a file of their own stay there. google.protobuf's DecodeError where it is none."""
    return ModelProto.FromString(path.read_bytes())


def written(model: ModelProto) -> bytes:
    """Write a graph: the same bytes every time."""
    return model.SerializeToString(deterministic=True)


def model(graph: GraphProto, *, opset: int, ir_version: int, producer: str | None = None) -> ModelProto:
    """Make a file's content of a graph of ONNX's own operators."""
    return ModelProto(
        ir_version=ir_version,
        producer_name=producer,
        graph=graph,
        opset_import=[OperatorSetIdProto(domain="", version=opset)],
    )


def graph(
    name: str,
    nodes: Iterable[NodeProto],
    inputs: Iterable[ValueInfoProto],
    outputs: Iterable[ValueInfoProto],
    constants: Iterable[TensorProto] = (),
) -> GraphProto:
    """Make a graph; nodes in the order that they are computed in."""
    return GraphProto(name=name, node=nodes, input=inputs, output=outputs, initializer=constants)


def node(
    kind: str, inputs: Iterable[str], outputs: Iterable[str], name: str | None = None, /, **attributes: Attribute
) -> NodeProto:
    """Make an operator. An input that is left out is an empty name."""
    made = [_attribute(each, value) for each, value in sorted(attributes.items())]
    return NodeProto(op_type=kind, input=inputs, output=outputs, name=name, attribute=made)


def value(name: str, kind: int, shape: Shape) -> ValueInfoProto:
    """Describe an input or an output. kind: one of TYPES. shape: sides as numbers, or as names where they may be any."""
    described = ValueInfoProto(name=name)
    described.type.tensor_type.elem_type = kind
    described.type.tensor_type.shape.SetInParent()  # or a number would be a tensor of any rank
    for side in shape:
        described.type.tensor_type.shape.dim.add(**{"dim_param" if isinstance(side, str) else "dim_value": side})
    return described


def tensor(values: NDArray[Any], name: str) -> TensorProto:
    """Make a constant."""
    little = values.astype(values.dtype.newbyteorder("<"), copy=False)
    return TensorProto(name=name, data_type=TYPES[values.dtype.name], dims=values.shape, raw_data=little.tobytes())


def array(constant: TensorProto) -> NDArray[Any]:
    """Read a constant; ValueError where its values lie in another file, or are of a type that is not one of TYPES."""
    if constant.data_location == TensorProto.EXTERNAL:
        raise ValueError(f"the values of {constant.name} lie in a file of their own")
    if (kind := NAMES.get(constant.data_type)) is None:
        raise ValueError(
            f"the values of {constant.name} are of ONNX's type {constant.data_type}, which is not read here"
        )
    dtype = np.dtype(kind)
    if not constant.HasField("raw_data"):
        return _listed(constant, dtype).reshape(constant.dims)
    return np.frombuffer(constant.raw_data, dtype.newbyteorder("<")).astype(dtype, copy=False).reshape(constant.dims)


def _listed(constant: TensorProto, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Read values that are no bytes but a list, as other programs write them; small types lie in 32 bits, halves as their bits."""
    if dtype == np.float32:
        return np.array(constant.float_data, dtype)
    if dtype == np.int64:
        return np.array(constant.int64_data, dtype)
    numbers = np.array(constant.int32_data, np.int32)
    return numbers.astype(np.uint16).view(dtype) if dtype.name.endswith("float16") else numbers.astype(dtype)


def attributes(operator: NodeProto) -> dict[str, Any]:
    """Read the attributes of an operator: numbers, bytes and lists of numbers; what is of another type as it is."""
    return {each.name: _value(each) for each in operator.attribute}


def _attribute(name: str, value: Attribute) -> AttributeProto:
    if isinstance(value, str):
        return AttributeProto(name=name, type=AttributeProto.STRING, s=value.encode())
    if isinstance(value, float):
        return AttributeProto(name=name, type=AttributeProto.FLOAT, f=value)
    if isinstance(value, int):
        return AttributeProto(name=name, type=AttributeProto.INT, i=int(value))
    return AttributeProto(name=name, type=AttributeProto.INTS, ints=value)


def _value(attribute: AttributeProto) -> Any:  # noqa: ANN401 - as many types as attributes have
    match attribute.type:
        case AttributeProto.FLOAT:
            return attribute.f
        case AttributeProto.INT:
            return attribute.i
        case AttributeProto.STRING:
            return attribute.s
        case AttributeProto.INTS:
            return list(attribute.ints)
    return attribute
