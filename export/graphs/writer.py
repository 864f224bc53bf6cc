"""ONNX graphs written node by node."""

from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

Array = NDArray[Any]
Shape = Sequence[int | str]
Attribute = int | float | str | Sequence[int]
ONNX_TYPES = {
    np.dtype(np.float32): TensorProto.FLOAT,
    np.dtype(np.float16): TensorProto.FLOAT16,
    np.dtype(ml_dtypes.bfloat16): TensorProto.BFLOAT16,
    np.dtype(np.int64): TensorProto.INT64,
    np.dtype(np.uint8): TensorProto.UINT8,
    np.dtype(np.bool_): TensorProto.BOOL,
}


class GraphWriter:
    """One graph being written. Values are named by strings, in the order they are computed; the same calls, the same bytes."""

    def __init__(self, name: str, *, opset: int, ir_version: int) -> None:
        self._name = name
        self._opset = opset
        self._ir_version = ir_version
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []

    def input(self, name: str, dtype: np.dtype[Any], shape: Shape) -> str:
        """Declare an input."""
        self._inputs.append(helper.make_tensor_value_info(name, ONNX_TYPES[dtype], shape))
        return name

    def output(self, value: str, name: str, dtype: np.dtype[Any], shape: Shape, *, by: str = "Identity") -> None:
        """Declare a value as an output of this name. by: the operator that brings it there, Identity or Cast."""
        attributes = {"to": ONNX_TYPES[dtype]} if by == "Cast" else {}
        self._nodes.append(helper.make_node(by, [value], [name], name=name, **attributes))
        self._outputs.append(helper.make_tensor_value_info(name, ONNX_TYPES[dtype], shape))

    def op(self, kind: str, *inputs: str, **attributes: Attribute) -> str:
        """Add an operator with one output; returns its name."""
        name = f"{kind.lower()}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def ops(self, kind: str, outputs: int, *inputs: str, **attributes: Attribute) -> list[str]:
        """Add an operator with several outputs; returns their names."""
        name = f"{kind.lower()}_{len(self._nodes)}"
        values = [f"{name}_{index}" for index in range(outputs)]
        self._nodes.append(helper.make_node(kind, inputs, values, name=name, **attributes))
        return values

    def keep(self, tensor: onnx.TensorProto) -> str:
        """Add a constant; once for each name."""
        return str(self._constants.setdefault(tensor.name, tensor).name)

    def model(self) -> onnx.ModelProto:
        """Return all of it as a model."""
        graph = helper.make_graph(self._nodes, self._name, self._inputs, self._outputs, list(self._constants.values()))
        opsets = [helper.make_opsetid("", self._opset)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=self._ir_version, producer_name="upres")
