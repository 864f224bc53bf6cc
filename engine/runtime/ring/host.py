"""The host in place of a device: streams that run late, in orders drawn from a seed. For checks where no GPU is at hand.

Whatever a real device may do, this may do: work is left undone until somebody waits for it, and of several streams any may run
ahead of the others as far as their waits allow.
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

EAGER = 3  # pieces of work, at most, that are done by themselves when another is queued


class HostDevice:
    """seed: of the order. memory: bytes that there are. taken: of those that are in use."""

    def __init__(self, seed: int = 0, *, memory: int = 1 << 40) -> None:
        self._random = random.Random(seed)
        self._left = memory
        self._streams: list[HostStream] = []
        self._numbers = count(1)
        self.taken = 0

    def use(self) -> None:
        """Do nothing: every thread may use the host."""

    def stream(self) -> "HostStream":
        """Make a stream."""
        self._streams.append(HostStream(self, next(self._numbers)))
        return self._streams[-1]

    def memory(self, nbytes: int) -> "HostBytes":
        """Take memory; MemoryShortError where it is used up."""
        if nbytes > self._left:
            raise MemoryShortError(f"the device has {self._left} bytes left, and {nbytes} are needed")
        self._left -= nbytes
        self.taken += nbytes
        return HostBytes(self, nbytes)

    host_memory = memory

    def give_back(self, memory: "HostBytes") -> None:
        """Take memory back; RuntimeError where work that uses it is under way, which may do anything on a real device."""
        if any(stream.uses(memory) for stream in self._streams):
            raise RuntimeError("memory is given back while work under way uses it")
        nbytes = memory.array.nbytes
        self._left += nbytes
        self.taken -= nbytes

    def some(self) -> None:
        """Do some of what is queued, or nothing."""
        for _ in range(self._random.randrange(EAGER + 1)):
            self._step()

    def until(self, event: "HostEvent") -> None:
        """Do what is queued, in any order that the waits allow, until an event has come."""
        while not event.come:
            if not self._step():
                raise RuntimeError("an event is waited for that nothing brings")

    def forget(self, stream: "HostStream") -> None:
        """Drop a stream, once its work is done."""
        self.until(stream.record())
        self._streams.remove(stream)

    def _step(self) -> bool:
        ready = [stream for stream in self._streams if stream.ready]
        if ready:
            self._random.choice(ready).step()
        return bool(ready)


class HostBytes:
    """Memory of the host, in place of a device's. Nobody has written what it holds at first."""

    def __init__(self, device: HostDevice, nbytes: int) -> None:
        self._device = device
        self.array: NDArray[np.uint8] = np.full(nbytes, 0xA5, np.uint8)

    @property
    def address(self) -> int:
        """Return where it begins."""
        return self.array.ctypes.data

    def close(self) -> None:
        """Give it back; what is read from now on is wrong."""
        self._device.give_back(self)
        self.array.fill(0x5A)


class HostEvent:
    """A place in a stream of the host. come: whether the stream has got there."""

    def __init__(self, device: HostDevice) -> None:
        self._device = device
        self.come = False

    def wait(self) -> None:
        """Wait until all work before it is done; what that work raises is raised here."""
        self._device.until(self)


@dataclass(frozen=True, slots=True)
class _Work:
    """A piece of work, and the memory that it uses."""

    do: Callable[[], None]
    memory: tuple[Memory, ...]


class HostStream:
    """A queue of work."""

    def __init__(self, device: HostDevice, handle: int) -> None:
        self._device = device
        self._queue: deque[_Work | HostEvent] = deque()
        self.handle = handle

    def copy(self, source: Memory, target: Memory) -> None:
        """Queue a copy."""
        assert isinstance(source, HostBytes) and isinstance(target, HostBytes)
        self.call(lambda: np.copyto(target.array, source.array), source, target)

    def clear(self, memory: Memory) -> None:
        """Queue zeros."""
        assert isinstance(memory, HostBytes)
        self.call(lambda: memory.array.fill(0), memory)

    def call(self, work: Callable[[], None], *memory: Memory) -> None:
        """Queue any work. memory: that it uses."""
        self._queue.append(_Work(work, memory))
        self._device.some()

    def uses(self, memory: Memory) -> bool:
        """Tell whether work under way uses some memory."""
        return any(isinstance(work, _Work) and any(each is memory for each in work.memory) for work in self._queue)

    def record(self) -> HostEvent:
        """Mark the place behind all that is queued so far."""
        event = HostEvent(self._device)
        self.call(lambda: setattr(event, "come", True))
        return event

    def wait(self, event: Event) -> None:
        """Let what is queued from here on begin only after an event."""
        assert isinstance(event, HostEvent)
        self._queue.append(event)

    @property
    def ready(self) -> bool:
        """Tell whether its next work may begin."""
        return bool(self._queue) and not (isinstance(head := self._queue[0], HostEvent) and not head.come)

    def step(self) -> None:
        """Do its next work."""
        work = self._queue.popleft()
        if isinstance(work, _Work):
            work.do()

    def close(self) -> None:
        """Finish its work and drop it."""
        self._device.forget(self)


class GraphInPlace(Graph, Protocol):
    """A graph that runs at once on memory that it is shown, as ONNX Runtime's do."""

    def enqueue(self, bound: Mapping[str, Bound]) -> None:
        """Run once."""
        ...


def _no_other(model: bytes) -> GraphInPlace:
    raise ModelError("no graph can be loaded beside this one")


class HostGraph:
    """A graph on a CPU whose runs are queued on a stream of the host."""

    def __init__(
        self,
        graph: GraphInPlace,
        device: HostDevice,
        *,
        load: Callable[[bytes], GraphInPlace] = _no_other,
        compute: HostStream | None = None,
    ) -> None:
        """load: another graph, from an ONNX file. compute: the stream to run on, by default one of its own."""
        self._graph = graph
        self._load = load
        self.on = device
        self.compute = compute or device.stream()
        self.memory_factor = graph.memory_factor
        self.report = f"{graph.report}, queued"

    def run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run once, at once."""
        return self._graph.run(feeds)

    def prepare(self, inputs: Mapping[str, Spec], *, width: int, height: int) -> str | None:
        """Do nothing: it takes any shape."""

    def beside(self, model: bytes) -> "HostGraph":
        """Load another graph onto the same stream."""
        return HostGraph(self._load(model), self.on, load=self._load, compute=self.compute)

    def enqueue(self, bound: Mapping[str, Bound]) -> None:
        """Queue one run."""
        self.compute.call(lambda: self._graph.enqueue(bound), *(each.memory for each in bound.values()))
