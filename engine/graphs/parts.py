"""Construction and parsing of ONNX graphs with the format's protobuf schema; this avoids the `onnx` package, which is 26 MB."""

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
"""Supported tensor types: NumPy's name and ONNX's number. bfloat16 requires that ml_dtypes is imported."""
NAMES = {number: name for name, number in TYPES.items()}


def read(path: Path) -> ModelProto:
    """Read a graph's file, without weights in external files. Raises google.protobuf's DecodeError if it is not a graph."""
    return ModelProto.FromString(path.read_bytes())


def written(model: ModelProto) -> bytes:
    """Serialize a graph. The bytes are reproducible."""
    return model.SerializeToString(deterministic=True)


def model(graph: GraphProto, *, opset: int, ir_version: int, producer: str | None = None) -> ModelProto:
    """Create a model, the root of a file, from a graph of standard ONNX operators."""
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
    """Create a graph; nodes must be in the order of computation."""
    return GraphProto(name=name, node=nodes, input=inputs, output=outputs, initializer=constants)


def node(
    kind: str, inputs: Iterable[str], outputs: Iterable[str], name: str | None = None, /, **attributes: Attribute
) -> NodeProto:
    """Create an operator. Pass an empty name for an omitted input."""
    attribute_protos = [_attribute(each, value) for each, value in sorted(attributes.items())]
    return NodeProto(op_type=kind, input=inputs, output=outputs, name=name, attribute=attribute_protos)


def value(name: str, kind: int, shape: Shape) -> ValueInfoProto:
    """Create the description of an input or output. kind: one of TYPES. shape: sizes, or names for variable sizes."""
    described = ValueInfoProto(name=name)
    described.type.tensor_type.elem_type = kind
    described.type.tensor_type.shape.SetInParent()  # otherwise a scalar would mean a tensor of any rank
    for side in shape:
        described.type.tensor_type.shape.dim.add(**{"dim_param" if isinstance(side, str) else "dim_value": side})
    return described


def tensor(values: NDArray[Any], name: str) -> TensorProto:
    """Create a constant."""
    little = values.astype(values.dtype.newbyteorder("<"), copy=False)
    return TensorProto(name=name, data_type=TYPES[values.dtype.name], dims=values.shape, raw_data=little.tobytes())


def array(constant: TensorProto) -> NDArray[Any]:
    """Return the values of a constant. Raises ValueError if they are in an external file or of a type not in TYPES."""
    if constant.data_location == TensorProto.EXTERNAL:
        raise ValueError(f"the values of {constant.name} are in an external file")
    if (kind := NAMES.get(constant.data_type)) is None:
        raise ValueError(
            f"the values of {constant.name} are of ONNX's type {constant.data_type}, which is not supported here"
        )
    dtype = np.dtype(kind)
    if not constant.HasField("raw_data"):
        return _listed(constant, dtype).reshape(constant.dims)
    return np.frombuffer(constant.raw_data, dtype.newbyteorder("<")).astype(dtype, copy=False).reshape(constant.dims)


def _listed(constant: TensorProto, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Read values stored as a list rather than bytes, as some programs do: small types as int32, 16-bit floats as their bits."""
    if dtype == np.float32:
        return np.array(constant.float_data, dtype)
    if dtype == np.int64:
        return np.array(constant.int64_data, dtype)
    numbers = np.array(constant.int32_data, np.int32)
    return numbers.astype(np.uint16).view(dtype) if dtype.name.endswith("float16") else numbers.astype(dtype)


def attributes(operator: NodeProto) -> dict[str, Any]:
    """Return the attributes of an operator as numbers, bytes and lists of numbers; attributes of other types unchanged."""
    return {each.name: _value(each) for each in operator.attribute}


def _attribute(name: str, value: Attribute) -> AttributeProto:
    if isinstance(value, str):
        return AttributeProto(name=name, type=AttributeProto.STRING, s=value.encode())
    if isinstance(value, float):
        return AttributeProto(name=name, type=AttributeProto.FLOAT, f=value)
    if isinstance(value, int):
        return AttributeProto(name=name, type=AttributeProto.INT, i=int(value))
    return AttributeProto(name=name, type=AttributeProto.INTS, ints=value)


def _value(attribute: AttributeProto) -> Any:  # noqa: ANN401 - of any type that attributes have
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
