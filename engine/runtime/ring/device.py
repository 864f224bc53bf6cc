"""What a ring asks of a device: memory on both sides, and streams of work in order. Names no vendor."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from upres.engine.runtime.base import Graph

BFLOAT16 = np.dtype([("bfloat16", np.uint16)])
"""What NumPy has no number for: as wide, and its zero is the same."""


@dataclass(frozen=True, slots=True)
class Spec:
    """The shape and type of a tensor."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def nbytes(self) -> int:
        """Count the bytes it takes."""
        return math.prod(self.shape) * self.dtype.itemsize


class Memory(Protocol):
    """Bytes on a device, from `address` on."""

    @property
    def address(self) -> int: ...  # noqa: D102

    def close(self) -> None:
        """Give them back; no work that reads or writes them may be under way."""
        ...


class HostMemory(Memory, Protocol):
    """Bytes of the host that the device copies by itself, as an array of uint8."""

    @property
    def array(self) -> NDArray[np.uint8]: ...  # noqa: D102


class Event(Protocol):
    """A place in a stream."""

    def wait(self) -> None:
        """Wait on the host until all work before it is done; ModelError where that work failed."""
        ...


class Stream(Protocol):
    """Work that a device does in order. handle: what runtimes call it by."""

    @property
    def handle(self) -> int: ...  # noqa: D102

    def copy(self, source: Memory, target: Memory) -> None:
        """Queue a copy of all of `source` to `target`, which is as long."""
        ...

    def clear(self, memory: Memory) -> None:
        """Queue that all of some memory of the device becomes zero."""
        ...

    def record(self) -> Event:
        """Mark the place behind all that is queued so far."""
        ...

    def wait(self, event: Event) -> None:
        """Let what is queued from here on begin only after an event of another stream."""
        ...

    def close(self) -> None:
        """Release it, once its work is done."""
        ...


class Device(Protocol):
    """A device, or the host in its place."""

    def use(self) -> None:
        """Make it the calling thread's device: at the start of whatever a thread does with it."""
        ...

    def stream(self) -> Stream:
        """Make a stream."""
        ...

    def memory(self, nbytes: int) -> Memory:
        """Take memory of the device; MemoryShortError where it has none."""
        ...

    def host_memory(self, nbytes: int) -> HostMemory:
        """Take memory of the host that copies to and from the device go through; MemoryShortError where there is none."""
        ...


@dataclass(frozen=True, slots=True)
class Bound:
    """A tensor of a graph, in memory of the device."""

    spec: Spec
    memory: Memory


@runtime_checkable
class DeviceGraph(Graph, Protocol):
    """A graph whose runs are queued on a stream of its device. compute: that stream."""

    @property
    def on(self) -> Device: ...  # noqa: D102
    @property
    def compute(self) -> Stream: ...  # noqa: D102

    def prepare(self, inputs: Mapping[str, Spec], *, width: int, height: int) -> str | None:
        """Make ready for inputs of these shapes, as frames of width x height are cut into; ModelError where that fails.

        Returns a line for the user where something else than the report says will run them.
        """
        ...

    def beside(self, model: bytes) -> "DeviceGraph":
        """Load another graph, an ONNX file in float32, whose runs are queued on the same stream; ModelError where that fails."""
        ...

    def enqueue(self, bound: Mapping[str, Bound]) -> None:
        """Queue one run on `compute`; every input and output is bound, and stays until it is done.

        Raises MemoryShortError where the device has not the memory for it, ModelError where it cannot be queued.
        """
        ...


@runtime_checkable
class StateGraph(DeviceGraph, Protocol):
    """A graph that says which tensors it has: those of its state are inputs NAME.past.0, NAME.past.1 … and outputs NAME.new.0 …"""

    def specs(self, sizes: Mapping[str, int]) -> tuple[dict[str, Spec], dict[str, Spec]]:
        """Describe inputs and outputs by name. sizes: of the dimensions that are named, such as H in "H/8"."""
        ...
