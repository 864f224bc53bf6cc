"""State that stays on the device between two runs of a graph."""

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from .base import Tensor
from .ort import OnDevice, OnnxRuntimeGraph, StateInfo


class BoundState:
    """What one run leaves for the next: tensors allocated once on the device, bound by turns, never copied through Python.

    Each state is a ring, one longer than what a run reads: a run overwrites the oldest tensor. Graphs that are named together
    share their states: one may start what another continues.
    """

    def __init__(self, graphs: Sequence[OnnxRuntimeGraph], sizes: Mapping[str, int] | None = None) -> None:
        """Allocate. sizes: H and W in pixels, for dimensions such as "H/8". Contents are undefined until written or cleared."""
        self._states = {graph: graph.state() for graph in graphs}
        longest: dict[str, StateInfo] = {}
        for name, info in (item for states in self._states.values() for item in states.items()):
            longest[name] = max(longest.get(name, info), info, key=lambda info: info.past + info.new)
        self._rings = {name: _allocate(info, sizes or {}, graphs[0].device) for name, info in longest.items()}
        self._turn = dict.fromkeys(self._rings, 0)

    @property
    def nbytes(self) -> int:
        """Count the bytes that the states take on the device."""
        return sum(value.tensor_size_in_bytes() for ring in self._rings.values() for value in ring)

    def clear(self) -> None:
        """Set every state to zero."""
        for value in (value for ring in self._rings.values() for value in ring):
            value.update_inplace(np.zeros(value.shape(), _numpy_type(value.data_type())))

    def run(
        self,
        graph: OnnxRuntimeGraph,
        feeds: Mapping[str, Tensor],
        there: Mapping[str, OnDevice] = MappingProxyType({}),
        *,
        left: Collection[str] = (),
    ) -> dict[str, Any]:
        """Run a graph on this state and advance it; return the other outputs, owned by the caller.

        there: inputs that are on the device. left: outputs that stay there, as in `OnnxRuntimeGraph.run_bound`.
        """
        past = dict(there)
        new: dict[str, Any] = {}
        for name, info in self._states[graph].items():
            ring, turn = self._rings[name], self._turn[name]
            past |= {f"{name}.past.{at}": ring[(turn - info.past + at) % len(ring)] for at in range(info.past)}
            new |= {f"{name}.new.{at}": ring[(turn + at) % len(ring)] for at in range(info.new)}
            self._turn[name] = (turn + info.new) % len(ring)
        return graph.run_bound(feeds, past, new, left=left)


def _allocate(info: StateInfo, sizes: Mapping[str, int], device: str) -> list[Any]:
    import onnxruntime

    shape = []
    for dimension in info.shape:
        size, _, divisor = str(dimension).partition("/")
        shape.append((sizes[size] if size in sizes else int(size)) // int(divisor or 1))
    # bfloat16 has no NumPy type: ONNX's number for it stands in.
    kind = 16 if info.kind == "tensor(bfloat16)" else _numpy_type(info.kind)
    length = info.past + info.new
    return [onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, kind, device) for _ in range(length)]


def _numpy_type(kind: str) -> type[np.generic]:
    """Get the NumPy type of this kind; for bfloat16, which NumPy lacks, one as wide whose zero is the same."""
    types: dict[str, type[np.generic]] = {
        "tensor(float)": np.float32,
        "tensor(float16)": np.float16,
        "tensor(bfloat16)": np.uint16,
    }
    return types[kind]
