"""Simulated device on the host, whose streams execute late and in a random order. For tests on machines without a GPU.

It behaves in every way that a real device may: work stays pending until something waits for it, and any stream may run ahead of
the others, as far as its waits allow.
"""

import random
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from upres.engine.core.errors import MemoryShortError, ModelError
from upres.engine.runtime.base import Graph, Tensor

from .device import Bound, Event, Memory, Spec

EAGER = 3  # maximum number of pending pieces of work that are done whenever another one is enqueued


class HostDevice:
    """Simulated device. seed: of the execution order. memory: total size in bytes. in_use: allocated bytes."""

    def __init__(self, seed: int = 0, *, memory: int = 1 << 40) -> None:
        self._random = random.Random(seed)
        self._free_bytes = memory
        self._streams: list[HostStream] = []
        self._numbers = count(1)
        self.in_use = 0

    def use(self) -> None:
        """Do nothing: all threads can use the host."""

    def stream(self) -> "HostStream":
        """Create a stream."""
        self._streams.append(HostStream(self, next(self._numbers)))
        return self._streams[-1]

    def memory(self, nbytes: int) -> "HostBytes":
        """Allocate memory. Raises MemoryShortError if none is left."""
        if nbytes > self._free_bytes:
            raise MemoryShortError(f"the device has {self._free_bytes} bytes left, and {nbytes} are needed")
        self._free_bytes -= nbytes
        self.in_use += nbytes
        return HostBytes(self, nbytes)

    host_memory = memory

    def free(self, memory: "HostBytes") -> None:
        """Free memory. Raises RuntimeError if work in flight uses it, which has undefined effects on a real device."""
        if any(stream.uses(memory) for stream in self._streams):
            raise RuntimeError("memory is freed while work in flight uses it")
        nbytes = memory.array.nbytes
        self._free_bytes += nbytes
        self.in_use -= nbytes

    def run_some(self) -> None:
        """Do a random amount of the pending work, possibly none."""
        for _ in range(self._random.randrange(EAGER + 1)):
            self._step()

    def run_until(self, event: "HostEvent") -> None:
        """Do pending work, in any order that the waits allow, until an event has occurred."""
        while not event.occurred:
            if not self._step():
                raise RuntimeError("no pending work leads to the awaited event")

    def remove(self, stream: "HostStream") -> None:
        """Finish the work of a stream and remove it."""
        self.run_until(stream.record())
        self._streams.remove(stream)

    def _step(self) -> bool:
        ready = [stream for stream in self._streams if stream.ready]
        if ready:
            self._random.choice(ready).step()
        return bool(ready)


class HostBytes:
    """Host memory in place of a device's. Its initial contents are undefined, which is simulated by a fill pattern."""

    def __init__(self, device: HostDevice, nbytes: int) -> None:
        self._device = device
        self.array: NDArray[np.uint8] = np.full(nbytes, 0xA5, np.uint8)

    @property
    def address(self) -> int:
        """Address of the first byte."""
        return self.array.ctypes.data

    def close(self) -> None:
        """Release the memory, and overwrite it so that later reads yield wrong values."""
        self._device.free(self)
        self.array.fill(0x5A)


class HostEvent:
    """A position in a stream of the host. occurred: whether the stream has reached it."""

    def __init__(self, device: HostDevice) -> None:
        self._device = device
        self.occurred = False

    def wait(self) -> None:
        """Wait until all work before it is done. Errors raised by that work propagate."""
        self._device.run_until(self)


@dataclass(frozen=True, slots=True)
class _Work:
    """A piece of work and the memory that it uses."""

    do: Callable[[], None]
    memory: tuple[Memory, ...]


class HostStream:
    """Queue of work that is executed in order."""

    def __init__(self, device: HostDevice, handle: int) -> None:
        self._device = device
        self._queue: deque[_Work | HostEvent] = deque()
        self.handle = handle

    def copy(self, source: Memory, target: Memory) -> None:
        """Enqueue a copy."""
        assert isinstance(source, HostBytes) and isinstance(target, HostBytes)
        self.call(lambda: np.copyto(target.array, source.array), source, target)

    def clear(self, memory: Memory) -> None:
        """Enqueue filling memory with zeros."""
        assert isinstance(memory, HostBytes)
        self.call(lambda: memory.array.fill(0), memory)

    def call(self, work: Callable[[], None], *memory: Memory) -> None:
        """Enqueue a function. memory: all memory that it uses."""
        self._queue.append(_Work(work, memory))
        self._device.run_some()

    def uses(self, memory: Memory) -> bool:
        """Report whether pending work uses some memory."""
        return any(isinstance(work, _Work) and any(each is memory for each in work.memory) for work in self._queue)

    def record(self) -> HostEvent:
        """Record an event after all work enqueued so far."""
        event = HostEvent(self._device)
        self.call(lambda: setattr(event, "occurred", True))
        return event

    def wait(self, event: Event) -> None:
        """Make work enqueued from now on start only after an event."""
        assert isinstance(event, HostEvent)
        self._queue.append(event)

    @property
    def ready(self) -> bool:
        """Whether the next piece of work may start: the stream does not wait for an event of another one."""
        return bool(self._queue) and not (isinstance(head := self._queue[0], HostEvent) and not head.occurred)

    def step(self) -> None:
        """Do the next piece of work."""
        work = self._queue.popleft()
        if isinstance(work, _Work):
            work.do()

    def close(self) -> None:
        """Finish the pending work and remove the stream from its device."""
        self._device.remove(self)


class GraphInPlace(Graph, Protocol):
    """A graph that runs synchronously on the memory that is passed to it, as ONNX Runtime's graphs do on the CPU."""

    def enqueue(self, bound: Mapping[str, Bound]) -> None:
        """Run once."""
        ...


def _no_other(model: bytes) -> GraphInPlace:
    raise ModelError("no other graph can be loaded on this stream")


class HostGraph:
    """A graph on a CPU whose runs are enqueued on a stream of the host."""

    def __init__(
        self,
        graph: GraphInPlace,
        device: HostDevice,
        *,
        load: Callable[[bytes], GraphInPlace] = _no_other,
        compute: HostStream | None = None,
    ) -> None:
        """load: loads another graph from an ONNX file. compute: the stream to run on; a new one by default."""
        self._graph = graph
        self._load = load
        self.device = device
        self.compute = compute or device.stream()
        self.memory_factor = graph.memory_factor
        self.report = f"{graph.report}, queued"

    def run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run once, immediately."""
        return self._graph.run(feeds)

    def prepare(self, inputs: Mapping[str, Spec], *, width: int, height: int) -> str | None:
        """Return None: any shape is accepted without preparation."""

    def load_another(self, model: bytes) -> "HostGraph":
        """Load another graph on the same stream."""
        return HostGraph(self._load(model), self.device, load=self._load, compute=self.compute)

    def enqueue(self, bound: Mapping[str, Bound]) -> None:
        """Enqueue one run."""
        self.compute.call(lambda: self._graph.enqueue(bound), *(each.memory for each in bound.values()))
