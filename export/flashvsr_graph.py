"""Writes ONNX graphs node by node, with weights in one external file that several graphs share. Knows no network."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

Array = NDArray[Any]
Shape = Sequence[int | str]
Attribute = int | float | str | Sequence[int]
DTYPES = {"fp32": np.dtype(np.float32), "fp16": np.dtype(np.float16), "bf16": np.dtype(ml_dtypes.bfloat16)}
ONNX_TYPES = {
    np.dtype(np.float32): TensorProto.FLOAT,
    np.dtype(np.float16): TensorProto.FLOAT16,
    np.dtype(ml_dtypes.bfloat16): TensorProto.BFLOAT16,
    np.dtype(np.int64): TensorProto.INT64,
    np.dtype(np.uint8): TensorProto.UINT8,
    np.dtype(np.bool_): TensorProto.BOOL,
}
INLINE_BYTES = 4096  # smaller tensors stand in the graph: shapes and axes have to
ALIGNMENT = 4096  # so that a runtime can map a tensor straight from the file


class WeightFile:
    """The external data of several graphs: tensors one after the other, equal ones once. Holds none of them in memory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("wb")
        self._places: dict[bytes, tuple[int, int]] = {}
        self._digest = hashlib.sha256()

    def add(self, array: Array) -> tuple[int, int]:
        """Offset and length in bytes of this tensor in the file; written if it is new."""
        data = np.ascontiguousarray(array).view(np.uint8).reshape(-1).data
        key = hashlib.sha256(data).digest()
        if key not in self._places:
            self._file.write(bytes(-self._file.tell() % ALIGNMENT))
            self._places[key] = (self._file.tell(), len(data))
            self._file.write(data)
            self._digest.update(key)
        return self._places[key]

    def close(self) -> str:
        """Finish the file; gives the SHA-256 over the SHA-256 of every tensor in it, in order."""
        self._file.close()
        return self._digest.hexdigest()


class GraphWriter:
    """One graph being written. Values are named by strings, in the order they are computed; the same calls, the same bytes."""

    def __init__(self, name: str, weights: WeightFile, precision: str, opset: int) -> None:
        self.half = DTYPES[precision]
        self._name = name
        self._weights = weights
        self._opset = opset
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []

    def input(self, name: str, dtype: np.dtype[Any], shape: Shape) -> str:
        """Declare an input."""
        self._inputs.append(helper.make_tensor_value_info(name, ONNX_TYPES[dtype], shape))
        return name

    def output(self, value: str, name: str, dtype: np.dtype[Any], shape: Shape) -> None:
        """Declare a value as an output of this name."""
        self._nodes.append(helper.make_node("Identity", [value], [name], name=f"output_{name}"))
        self._outputs.append(helper.make_tensor_value_info(name, ONNX_TYPES[dtype], shape))

    def constant(self, array: Array, dtype: np.dtype[Any] | None = None) -> str:
        """A constant in its own dtype, or in the one given; finite values that would overflow it are refused."""
        value = np.asarray(array) if dtype is None else cast(np.asarray(array), dtype)
        digest = hashlib.sha256(f"{value.dtype}{value.shape}".encode() + value.tobytes()).hexdigest()
        name = f"c_{digest[:20]}"
        if name not in self._constants:
            tensor = TensorProto(name=name, data_type=ONNX_TYPES[value.dtype], dims=value.shape)
            if value.nbytes < INLINE_BYTES:
                tensor.raw_data = value.tobytes()
            else:
                offset, length = self._weights.add(value)
                tensor.data_location = TensorProto.EXTERNAL
                places = (("location", self._weights.path.name), ("offset", str(offset)), ("length", str(length)))
                tensor.external_data.extend(onnx.StringStringEntryProto(key=key, value=entry) for key, entry in places)
            self._constants[name] = tensor
        return name

    def ints(self, *values: int) -> str:
        """A constant vector of int64: a shape, axes, bounds."""
        return self.constant(np.array(values, np.int64))

    def scalar(self, value: float, dtype: np.dtype[Any] | None = None) -> str:
        """A constant number, float32 unless said otherwise."""
        return self.constant(np.array(value, np.float32), dtype or np.dtype(np.float32))

    def op(self, kind: str, *inputs: str, **attributes: Attribute) -> str:
        """Add a node with one output; gives its name."""
        return self.ops(kind, 1, *inputs, **attributes)[0]

    def ops(self, kind: str, outputs: int, *inputs: str, **attributes: Attribute) -> list[str]:
        """Add a node with several outputs; gives their names."""
        name = f"{kind}_{len(self._nodes)}"
        values = [f"{name}_{index}" for index in range(outputs)]
        self._nodes.append(helper.make_node(kind, list(inputs), values, name=name, **attributes))
        return values

    def cast(self, value: str, dtype: np.dtype[Any]) -> str:
        """The value in another dtype; no node where the graph computes in that dtype throughout."""
        if dtype == self.half == np.float32:
            return value
        return self.op("Cast", value, to=ONNX_TYPES[dtype])

    def reshape(self, value: str, *shape: int) -> str:
        """Reshape; 0 keeps a dimension, -1 is what is left."""
        return self.op("Reshape", value, self.ints(*shape))

    def transpose(self, value: str, *order: int) -> str:
        """Permute the dimensions."""
        return self.op("Transpose", value, perm=order)

    def concat(self, values: Sequence[str], axis: int) -> str:
        """Join values along an axis."""
        return values[0] if len(values) == 1 else self.op("Concat", *values, axis=axis)

    def slice(self, value: str, start: int, stop: int, axis: int) -> str:
        """The part from start to stop along an axis."""
        return self.op("Slice", value, self.ints(start), self.ints(stop), self.ints(axis))

    def save(self, path: Path) -> None:
        """Write the graph beside its weight file."""
        graph = helper.make_graph(self._nodes, self._name, self._inputs, self._outputs, list(self._constants.values()))
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self._opset)], producer_name="upres")
        model.ir_version = 11 if self._opset >= 23 else 10
        path.write_bytes(model.SerializeToString(deterministic=True))


def cast(array: Array, dtype: np.dtype[Any]) -> Array:
    """The array in this dtype; OverflowError where a finite value becomes infinite."""
    with np.errstate(over="ignore"):
        value = array.astype(dtype)
    if dtype.itemsize < array.dtype.itemsize and not np.isfinite(value).all() and np.isfinite(array).all():
        raise OverflowError(f"values up to {np.abs(array).max():g} do not fit in {dtype}")
    return value
