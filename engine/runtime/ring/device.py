"""Protocols of a device as used by a ring: memory on both sides, and ordered streams of work. Vendor-neutral."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from upres.engine.runtime.base import Graph

BFLOAT16 = np.dtype([("bfloat16", np.uint16)])
"""Stand-in for bfloat16, which NumPy lacks: of the same size, and with the same representation of zero."""


@dataclass(frozen=True, slots=True)
class Spec:
    """The shape and type of a tensor."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


class Memory(Protocol):
    """Device memory. address: of its first byte."""

    @property
    def address(self) -> int: ...  # noqa: D102

    def close(self) -> None:
        """Release the memory; no work in flight may use it."""
        ...


class HostMemory(Memory, Protocol):
    """Host memory that the device can access directly. array: its bytes as uint8."""

    @property
    def array(self) -> NDArray[np.uint8]: ...  # noqa: D102


class Event(Protocol):
    """A position in a stream."""

    def wait(self) -> None:
        """Block the host until all work before it is done. Raises ModelError if that work failed."""
        ...


class Stream(Protocol):
    """A queue of work that a device executes in order. handle: its identifier for runtimes."""

    @property
    def handle(self) -> int: ...  # noqa: D102

    def copy(self, source: Memory, target: Memory) -> None:
        """Enqueue a copy of all of `source` to `target`, which has the same size."""
        ...

    def clear(self, memory: Memory) -> None:
        """Enqueue filling device memory with zeros."""
        ...

    def record(self) -> Event:
        """Record an event after all work enqueued so far."""
        ...

    def wait(self, event: Event) -> None:
        """Make work enqueued from now on start only after an event of another stream."""
        ...

    def close(self) -> None:
        """Release the stream after its work is done."""
        ...


class Device(Protocol):
    """A device, or a simulation of one on the host."""

    def use(self) -> None:
        """Make this the calling thread's current device. Call it before anything else a thread does with the device."""
        ...

    def stream(self) -> Stream:
        """Create a stream."""
        ...

    def memory(self, nbytes: int) -> Memory:
        """Allocate device memory. Raises MemoryShortError if not enough is free."""
        ...

    def host_memory(self, nbytes: int) -> HostMemory:
        """Allocate host memory for copies to and from the device. Raises MemoryShortError if not enough is free."""
        ...


@dataclass(frozen=True, slots=True)
class Bound:
    """A tensor of a graph in device memory."""

    spec: Spec
    memory: Memory


@runtime_checkable
class DeviceGraph(Graph, Protocol):
    """A graph whose runs are enqueued on a stream of its device. device: where its tensors are. compute: the stream."""

    @property
    def device(self) -> Device: ...  # noqa: D102
    @property
    def compute(self) -> Stream: ...  # noqa: D102

    def prepare(self, inputs: Mapping[str, Spec], *, width: int, height: int) -> str | None:
        """Prepare for inputs of these shapes, the tiles of frames of width x height. Raises ModelError if that fails.

        Returns a message for the user if another runtime or device than `report` states will run them.
        """
        ...

    def load_another(self, model: bytes) -> "DeviceGraph":
        """Load another graph, a float32 ONNX file, whose runs use the same stream. Raises ModelError if that fails."""
        ...

    def enqueue(self, bound: Mapping[str, Bound]) -> None:
        """Enqueue one run on `compute`. Every input and output must be bound, and stay valid until the run is done.

        Raises MemoryShortError if the device lacks memory, ModelError if the run cannot be enqueued.
        """
        ...


@runtime_checkable
class StateGraph(DeviceGraph, Protocol):
    """A graph that describes its tensors. Those of its state are inputs NAME.past.0, NAME.past.1 … and outputs NAME.new.0 …"""

    def specs(self, sizes: Mapping[str, int]) -> tuple[dict[str, Spec], dict[str, Spec]]:
        """Return the specs of inputs and outputs by name. sizes: of named dimensions, such as H in "H/8"."""
        ...
