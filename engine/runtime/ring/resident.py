"""Tensors that stay in device memory: the graphs of one stream write and read them, and they are never copied to the host."""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np

from upres.engine.runtime.base import Tensor

from .device import Bound, DeviceGraph, Spec, StateGraph


class Resident:
    """Owner of the memory of such tensors, which is released all at once. nbytes: its total size."""

    def __init__(self, graph: DeviceGraph) -> None:
        """graph: any of the graphs that use the tensors; all must be on the same device and run on the same stream."""
        self._device, self._compute = graph.device, graph.compute
        self._resources = ExitStack()
        self.nbytes = 0

    def allocate(self, spec: Spec) -> Bound:
        """Allocate memory for a tensor. Raises MemoryShortError if the device has none left. Its contents are undefined."""
        self._device.use()
        memory = self._device.memory(spec.nbytes)
        self._resources.callback(memory.close)
        self.nbytes += spec.nbytes
        return Bound(spec, memory)

    def upload(self, values: Tensor) -> Bound:
        """Copy an array to newly allocated memory, and wait for the copy."""
        bound = self.allocate(Spec(values.shape, values.dtype))
        host = self._device.host_memory(values.nbytes)
        try:
            host.array[:] = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
            self._compute.copy(host, bound.memory)
            self._compute.record().wait()
        finally:
            host.close()
        return bound

    def clear(self, bound: Bound) -> None:
        """Enqueue filling a tensor with zeros."""
        self._device.use()
        self._compute.clear(bound.memory)

    def close(self) -> None:
        """Wait for work in flight and release all memory. May be called twice."""
        self._device.use()
        with self._resources:
            self._compute.record().wait()


@dataclass(frozen=True, slots=True)
class _Part:
    """A state of a graph. past, new: number of tensors that one run reads and writes."""

    spec: Spec
    past: int
    new: int

    @property
    def length(self) -> int:
        """Number of tensors needed, so that no run reads a tensor that it also writes."""
        return self.past + self.new


class State:
    """Tensors that a run writes for later runs to read, allocated once and used in rotation. nbytes: their total size.

    The tensors of each state form a ring: a run overwrites the oldest ones. The graphs of one State share them,
    so that one graph may start what another continues.
    """

    def __init__(self, graphs: Sequence[StateGraph], sizes: Mapping[str, int]) -> None:
        """Allocate memory. Raises MemoryShortError if the device has none left. Contents are undefined until written or cleared."""
        self._parts = {graph: _parts(graph, sizes) for graph in graphs}
        longest: dict[str, _Part] = {}
        for name, part in (item for parts in self._parts.values() for item in parts.items()):
            longest[name] = max(longest.get(name, part), part, key=lambda part: part.length)
        with ExitStack() as undo:
            self._resident = Resident(graphs[0])
            undo.callback(self._resident.close)
            self._rings = {
                name: [self._resident.allocate(part.spec) for _ in range(part.length)] for name, part in longest.items()
            }
            undo.pop_all()
        self._positions = dict.fromkeys(self._rings, 0)
        self.nbytes = self._resident.nbytes

    def clear(self) -> None:
        """Enqueue filling every state with zeros."""
        for bound in (bound for ring in self._rings.values() for bound in ring):
            self._resident.clear(bound)

    def advance(self, graph: StateGraph) -> dict[str, Bound]:
        """Return the tensors that the graph's next run reads and writes, by the names of its inputs and outputs."""
        bound: dict[str, Bound] = {}
        for name, part in self._parts[graph].items():
            ring, position = self._rings[name], self._positions[name]
            bound |= {f"{name}.past.{at}": ring[(position - part.past + at) % len(ring)] for at in range(part.past)}
            bound |= {f"{name}.new.{at}": ring[(position + at) % len(ring)] for at in range(part.new)}
            self._positions[name] = (position + part.new) % len(ring)
        return bound

    def close(self) -> None:
        """Wait for work in flight and release all memory. May be called twice."""
        self._resident.close()


def state_of(name: str) -> str | None:
    """Return the state that an input or output belongs to: K for "K.past.0" and for "K.new.0"; None for other tensors."""
    for role in ("past", "new"):
        state, _, index = name.rpartition(f".{role}.")
        if state and index.isdigit():
            return state
    return None


def _parts(graph: StateGraph, sizes: Mapping[str, int]) -> dict[str, _Part]:
    read, written = graph.specs(sizes)
    past, new = (Counter(map(state_of, names)) for names in (read, written))
    named = ((state_of(name), spec) for name, spec in (*read.items(), *written.items()))
    return {state: _Part(spec, past[state], new[state]) for state, spec in named if state is not None}
