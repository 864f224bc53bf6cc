"""Writer of ONNX graphs, node by node."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from upres.engine.graphs import parts
from upres.engine.graphs.onnx_pb2 import ModelProto, NodeProto, TensorProto, ValueInfoProto
from upres.engine.graphs.parts import TYPES, Attribute, Shape

Array = NDArray[Any]


class GraphWriter:
    """A graph under construction. Values are named by strings in the order they are computed; equal calls give equal bytes."""

    def __init__(self, name: str, *, opset: int, ir_version: int) -> None:
        self._name = name
        self._opset = opset
        self._ir_version = ir_version
        self._nodes: list[NodeProto] = []
        self._constants: dict[str, TensorProto] = {}
        self._inputs: list[ValueInfoProto] = []
        self._outputs: list[ValueInfoProto] = []

    def input(self, name: str, dtype: np.dtype[Any], shape: Shape) -> str:
        """Declare an input."""
        self._inputs.append(parts.value(name, TYPES[dtype.name], shape))
        return name

    def output(self, value: str, name: str, dtype: np.dtype[Any], shape: Shape, *, by: str = "Identity") -> None:
        """Declare a value as an output with a name. by: the operator that produces the output, Identity or Cast."""
        attributes = {"to": TYPES[dtype.name]} if by == "Cast" else {}
        self._nodes.append(parts.node(by, [value], [name], name, **attributes))
        self._outputs.append(parts.value(name, TYPES[dtype.name], shape))

    def op(self, kind: str, *inputs: str, **attributes: Attribute) -> str:
        """Add an operator with one output; returns its name."""
        name = f"{kind.lower()}_{len(self._nodes)}"
        self._nodes.append(parts.node(kind, inputs, [name], name, **attributes))
        return name

    def ops(self, kind: str, outputs: int, *inputs: str, **attributes: Attribute) -> list[str]:
        """Add an operator with several outputs; returns their names."""
        name = f"{kind.lower()}_{len(self._nodes)}"
        values = [f"{name}_{index}" for index in range(outputs)]
        self._nodes.append(parts.node(kind, inputs, values, name, **attributes))
        return values

    def keep(self, tensor: TensorProto) -> str:
        """Add a constant, once for each name; returns its name."""
        return str(self._constants.setdefault(tensor.name, tensor).name)

    def model(self) -> ModelProto:
        """Return the graph as a model."""
        graph = parts.graph(self._name, self._nodes, self._inputs, self._outputs, self._constants.values())
        return parts.model(graph, opset=self._opset, ir_version=self._ir_version, producer="upres")
