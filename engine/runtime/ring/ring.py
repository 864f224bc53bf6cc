"""A bounded ring of runs under way: copies in, runs and copies out, each on a stream of its own, in the order of submission.

Three waits keep it right, and no more are needed: a run waits for its copy in, a copy out waits for its run, and the host waits
for the copy out before it reads a result or fills the same memory again.
"""

from collections import deque
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Protocol, TypeVar

from upres.engine.runtime.base import Tensor

from .device import Bound, Device, DeviceGraph, Event, HostMemory, Spec

Specs = Mapping[str, Spec]
NOTHING: Specs = {}
NO_OTHERS: Mapping[str, Bound] = {}


class _Resource(Protocol):
    def close(self) -> None: ...


Resource = TypeVar("Resource", bound=_Resource)


@dataclass(slots=True)
class _Slot:
    """Memory for one run. host: by tensor, what is copied from or to. done: its copy out, while it is under way.

    out: the outputs that are copied.
    """

    host: dict[str, HostMemory]
    bound: dict[str, Bound]
    out: tuple[str, ...] = ()
    done: Event | None = None


class Ring:
    """Runs of one graph with tensors of one shape. Used by one thread at a time, which need not be the one that made it."""

    def __init__(
        self, graph: DeviceGraph, inputs: Specs, outputs: Specs, depth: int, *, between: Specs = NOTHING
    ) -> None:
        """Take the memory for `depth` runs; MemoryShortError where host or device have not as much, and none is kept.

        between: tensors that the graph writes and reads again within a run, and that stay on the device. Runs compute one after
        the other, so all of them use the same memory.
        """
        self._graph = graph
        self._inputs = inputs
        self._outputs = outputs
        graph.on.use()
        with ExitStack() as taken:
            self._in, self._out = (_kept(taken, graph.on.stream()) for _ in range(2))
            shared = _bound(graph.on, between, taken)
            self._free = deque(_slot(graph.on, {**inputs, **outputs}, shared, taken) for _ in range(depth))
            self._taken = taken.pop_all()
        self._under_way: deque[_Slot] = deque()
        self._closed = False

    def __len__(self) -> int:
        """Count the runs under way."""
        return len(self._under_way)

    @property
    def full(self) -> bool:
        """Tell whether a result must be collected before the next run is submitted."""
        return not self._free

    def submit(self, feeds: Mapping[str, Tensor], there: Mapping[str, Bound] = NO_OTHERS) -> None:
        """Queue a run, for which there must be room. feeds: every input that is copied in; they are copied before this returns.

        there: inputs and outputs that are on the device and stay there: what the graph's own stream, and nothing else, writes
        and reads. Raises what the graph raises; then this run is forgotten, and those before it are still under way.
        """
        self._graph.on.use()
        slot = self._free.popleft()
        try:
            self._queue(slot, feeds, there)
        except BaseException:
            self._free.append(slot)  # what was queued with it comes before all that the next run queues
            raise
        self._under_way.append(slot)

    def _queue(self, slot: _Slot, feeds: Mapping[str, Tensor], there: Mapping[str, Bound]) -> None:
        for name, spec in _without(self._inputs, there).items():
            _as(slot.host[name], spec)[:] = feeds[name]
            self._in.copy(slot.host[name], slot.bound[name].memory)
        self._graph.compute.wait(self._in.record())
        self._graph.enqueue({**slot.bound, **there})
        self._out.wait(self._graph.compute.record())
        slot.out = tuple(_without(self._outputs, there))
        for name in slot.out:
            self._out.copy(slot.bound[name].memory, slot.host[name])
        slot.done = self._out.record()

    def collect(self) -> dict[str, Tensor]:
        """Wait for the oldest run; return its outputs by name, which may be read until the next run is submitted.

        Raises ModelError where the device has failed.
        """
        self._graph.on.use()
        slot = self._under_way.popleft()
        self._free.append(slot)
        assert slot.done is not None
        slot.done.wait()
        return {name: _as(slot.host[name], self._outputs[name]) for name in slot.out}

    def close(self) -> None:
        """Wait for what is under way, drop its results, and give all memory back; safe to call twice."""
        if self._closed:
            return
        self._closed = True
        self._graph.on.use()
        self._under_way.clear()
        with self._taken:
            for stream in (self._in, self._graph.compute, self._out):
                stream.record().wait()


def run_once(graph: DeviceGraph, feeds: Mapping[str, Tensor], outputs: Specs) -> dict[str, Tensor]:
    """Run a graph with nothing else under way; outputs are owned by the caller."""
    inputs = {name: Spec(value.shape, value.dtype) for name, value in feeds.items()}
    ring = Ring(graph, inputs, outputs, 1)
    try:
        ring.submit(feeds)
        return {name: value.copy() for name, value in ring.collect().items()}
    finally:
        ring.close()


def _slot(device: Device, specs: Specs, shared: dict[str, Bound], taken: ExitStack) -> _Slot:
    host = {name: _kept(taken, device.host_memory(spec.nbytes)) for name, spec in specs.items()}
    return _Slot(host, {**shared, **_bound(device, specs, taken)})


def _bound(device: Device, specs: Specs, taken: ExitStack) -> dict[str, Bound]:
    return {name: Bound(spec, _kept(taken, device.memory(spec.nbytes))) for name, spec in specs.items()}


def _without(specs: Specs, there: Mapping[str, Bound]) -> Specs:
    return {name: spec for name, spec in specs.items() if name not in there}


def _kept(taken: ExitStack, resource: Resource) -> Resource:
    taken.callback(resource.close)
    return resource


def _as(memory: HostMemory, spec: Spec) -> Tensor:
    view: Tensor = memory.array.view(spec.dtype).reshape(spec.shape)
    return view
