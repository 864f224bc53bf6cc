"""Builder of small graphs, node by node, with generated names."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from . import parts
from .onnx_pb2 import NodeProto, TensorProto, ValueInfoProto

OPSET, IR_VERSION = 17, 8


class Nodes:
    """Nodes and constants of a graph; unnamed ones are named by their type and number."""

    def __init__(self) -> None:
        self._nodes: list[NodeProto] = []
        self._constants: list[TensorProto] = []

    def add(self, kind: str, *inputs: str, name: str | None = None, **attributes: parts.Attribute) -> str:
        """Add an operator; return the name of its output. Pass an empty name for an omitted input."""
        name = name or f"{kind} {len(self._nodes)}"
        self._nodes.append(parts.node(kind, inputs, [name], **attributes))
        return name

    def constant(self, values: NDArray[np.generic] | np.generic) -> str:
        """Add a constant; return its name."""
        name = f"constant {len(self._constants)}"
        self._constants.append(parts.tensor(np.asarray(values), name))
        return name

    def file(self, name: str, inputs: Iterable[ValueInfoProto], outputs: Iterable[ValueInfoProto]) -> bytes:
        """Return the graph as the contents of an ONNX file. The bytes are reproducible."""
        graph = parts.graph(name, self._nodes, inputs, outputs, self._constants)
        return parts.written(parts.model(graph, opset=OPSET, ir_version=IR_VERSION))
