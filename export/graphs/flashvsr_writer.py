"""Writes ONNX graphs node by node, with weights in one external file that several graphs share. Knows no network."""

import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
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
    """The external data of several graphs: tensors one after the other, equal ones once. Holds none of them in memory.

    It appears under its name when it is finished: a session that has an older one mapped keeps that, and an export that
    fails leaves it as it was.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.shared: dict[tuple[str, str], TensorProto] = {}
        self._unfinished = path.with_name(f"{path.name}.part")
        self._file = self._unfinished.open("wb")
        self._places: dict[str, tuple[int, int]] = {}

    def add(self, array: Array, digest: str) -> tuple[int, int]:
        """Offset and length in bytes of this tensor in the file; written if none with this SHA-256 is there."""
        if digest not in self._places:
            self._file.write(bytes(-self._file.tell() % ALIGNMENT))
            self._places[digest] = (self._file.tell(), array.nbytes)
            self._file.write(_bytes(array))
        return self._places[digest]

    def finish(self) -> str:
        """Put the file in its place; gives the SHA-256 over the SHA-256 of every tensor in it, in order."""
        self._file.close()
        self._unfinished.replace(self.path)
        return hashlib.sha256("".join(self._places).encode()).hexdigest()

    def close(self) -> None:
        """Let go of the file, and of what was written where it was not finished."""
        with suppress(OSError):  # of a full disk: what was not written yet is not wanted any more
            self._file.close()
        self._unfinished.unlink(missing_ok=True)


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
        """A constant in its own dtype, or in the one given; OverflowError for finite values that do not fit it."""
        return self._keep(self._tensor(array, dtype))

    def weight(self, name: str, make: Callable[[], Array], dtype: np.dtype[Any]) -> str:
        """A constant that several graphs have under this name; it is made once."""
        shared = self._weights.shared
        if (name, dtype.name) not in shared:
            shared[name, dtype.name] = self._tensor(make(), dtype)
        return self._keep(shared[name, dtype.name])

    def _tensor(self, array: Array, dtype: np.dtype[Any] | None) -> TensorProto:
        value = np.ascontiguousarray(array if dtype is None else cast(array, dtype)).reshape(np.shape(array))
        digest = hashlib.sha256(f"{value.dtype}{value.shape}".encode())
        digest.update(_bytes(value))
        tensor = TensorProto(name=f"c_{digest.hexdigest()[:20]}", data_type=ONNX_TYPES[value.dtype], dims=value.shape)
        if value.nbytes < INLINE_BYTES:
            tensor.raw_data = value.tobytes()
        else:
            offset, length = self._weights.add(value, digest.hexdigest())
            tensor.data_location = TensorProto.EXTERNAL
            places = (("location", self._weights.path.name), ("offset", str(offset)), ("length", str(length)))
            tensor.external_data.extend(onnx.StringStringEntryProto(key=key, value=entry) for key, entry in places)
        return tensor

    def _keep(self, tensor: TensorProto) -> str:
        name = str(tensor.name)
        self._constants.setdefault(name, tensor)
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


def _bytes(array: Array) -> memoryview:
    """The bytes of a contiguous array, not copied."""
    return array.reshape(-1).view(np.uint8).data
