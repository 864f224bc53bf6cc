"""Writer of ONNX graphs whose weights are in one external file that several graphs share. Independent of any network."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from upres.engine.graphs import parts
from upres.engine.graphs.onnx_pb2 import StringStringEntryProto, TensorProto
from upres.engine.graphs.parts import TYPES

from .weight_file import WeightFile, bytes_of
from .writer import Array, GraphWriter

DTYPES = {"fp32": np.dtype(np.float32), "fp16": np.dtype(np.float16), "bf16": np.dtype(ml_dtypes.bfloat16)}
INLINE_BYTES = 4096  # smaller tensors are stored in the graph, as shapes and axes must be


class ExternalGraphWriter(GraphWriter):
    """A graph that computes in one precision, whose type is `dtype`, and in float32 where requested."""

    def __init__(self, name: str, weights: WeightFile, precision: str, opset: int) -> None:
        super().__init__(name, opset=opset, ir_version=11 if opset >= 23 else 10)
        self.dtype = DTYPES[precision]
        self._weights = weights

    def constant(self, array: Array, dtype: np.dtype[Any] | None = None) -> str:
        """Add a constant in its own dtype or in another; raises OverflowError for finite values that do not fit."""
        return self.keep(self._tensor(array, dtype))

    def weight(self, name: str, make: Callable[[], Array], dtype: np.dtype[Any]) -> str:
        """Add a constant that several graphs share under a name; it is created only once."""
        shared = self._weights.shared
        if (name, dtype.name) not in shared:
            shared[name, dtype.name] = self._tensor(make(), dtype)
        return self.keep(shared[name, dtype.name])

    def _tensor(self, array: Array, dtype: np.dtype[Any] | None) -> TensorProto:
        value = np.ascontiguousarray(array if dtype is None else cast(array, dtype)).reshape(np.shape(array))
        digest = hashlib.sha256(f"{value.dtype}{value.shape}".encode())
        digest.update(bytes_of(value))
        tensor = TensorProto(name=f"c_{digest.hexdigest()[:20]}", data_type=TYPES[value.dtype.name], dims=value.shape)
        if value.nbytes < INLINE_BYTES:
            tensor.raw_data = value.tobytes()
        else:
            offset, length = self._weights.add(value, digest.hexdigest())
            tensor.data_location = TensorProto.EXTERNAL
            places = (("location", self._weights.path.name), ("offset", str(offset)), ("length", str(length)))
            tensor.external_data.extend(StringStringEntryProto(key=key, value=entry) for key, entry in places)
        return tensor

    def ints(self, *values: int) -> str:
        """Add a constant vector of int64: a shape, axes, bounds."""
        return self.constant(np.array(values, np.int64))

    def scalar(self, value: float, dtype: np.dtype[Any] | None = None) -> str:
        """Add a constant number, float32 by default."""
        return self.constant(np.array(value, np.float32), dtype or np.dtype(np.float32))

    def cast(self, value: str, dtype: np.dtype[Any]) -> str:
        """Convert to another dtype; adds no node if the whole graph computes in float32."""
        if dtype == self.dtype == np.float32:
            return value
        return self.op("Cast", value, to=TYPES[dtype.name])

    def reshape(self, value: str, *shape: int) -> str:
        """Reshape; 0 keeps a dimension, -1 is inferred."""
        return self.op("Reshape", value, self.ints(*shape))

    def transpose(self, value: str, *order: int) -> str:
        """Permute the dimensions."""
        return self.op("Transpose", value, perm=order)

    def concat(self, values: Sequence[str], axis: int) -> str:
        """Join values along an axis."""
        return values[0] if len(values) == 1 else self.op("Concat", *values, axis=axis)

    def slice(self, value: str, start: int, stop: int, axis: int) -> str:
        """Return the part from start to stop along an axis."""
        return self.op("Slice", value, self.ints(start), self.ints(stop), self.ints(axis))

    def save(self, path: Path) -> None:
        """Write the graph to a file, in the folder of its weight file."""
        path.write_bytes(parts.written(self.model()))


def cast(array: Array, dtype: np.dtype[Any]) -> Array:
    """Convert an array to a dtype; raises OverflowError if a finite value becomes infinite."""
    with np.errstate(over="ignore"):
        value = array.astype(dtype)
    if dtype.itemsize < array.dtype.itemsize and not np.isfinite(value).all() and np.isfinite(array).all():
        raise OverflowError(f"values up to {np.abs(array).max():g} do not fit in {dtype}")
    return value
