"""A bounded ring of runs in flight: copies in, runs and copies out, each on its own stream, in the order of submission.

Three waits are necessary and sufficient: a run waits for its copy in, a copy out waits for its run, and the host waits for the
copy out before it reads a result or refills the same memory.
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
    """Memory of one run.

    host: host memory of each tensor that is copied in or out. bound: device memory of all tensors. out: names of the outputs that
    are copied out. done: event after the copies out; set once the run was submitted.
    """

    host: dict[str, HostMemory]
    bound: dict[str, Bound]
    out: tuple[str, ...] = ()
    done: Event | None = None


class Ring:
    """Runs of one graph with tensors of fixed shapes. Used by one thread at a time, not necessarily the one that created it."""

    def __init__(
        self, graph: DeviceGraph, inputs: Specs, outputs: Specs, depth: int, *, between: Specs = NOTHING
    ) -> None:
        """Allocate the memory for `depth` runs. Raises MemoryShortError, and keeps nothing, if host or device memory is short.

        between: intermediate tensors, which the graph writes and then reads within a run. Runs are computed one after the other,
        so all of them use the same memory.
        """
        self._graph = graph
        self._inputs = inputs
        self._outputs = outputs
        graph.device.use()
        with ExitStack() as resources:
            self._in, self._out = (_close_with(resources, graph.device.stream()) for _ in range(2))
            shared = _bound(graph.device, between, resources)
            self._free = deque(_slot(graph.device, {**inputs, **outputs}, shared, resources) for _ in range(depth))
            self._resources = resources.pop_all()
        self._in_flight: deque[_Slot] = deque()
        self._closed = False

    def __len__(self) -> int:
        """Return the number of runs in flight."""
        return len(self._in_flight)

    @property
    def full(self) -> bool:
        """Whether a result must be collected before the next run is submitted."""
        return not self._free

    def submit(self, feeds: Mapping[str, Tensor], resident: Mapping[str, Bound] = NO_OTHERS) -> None:
        """Submit a run; the ring must not be full. feeds: every input that is copied in, which happens before this returns.

        resident: inputs and outputs that stay on the device, which only the graph's own stream may read and write. Errors of the
        graph propagate; this run is then discarded, and those before it remain in flight.
        """
        self._graph.device.use()
        slot = self._free.popleft()
        try:
            self._queue(slot, feeds, resident)
        except BaseException:
            self._free.append(slot)  # reusable: streams finish its work before the next
            raise
        self._in_flight.append(slot)

    def _queue(self, slot: _Slot, feeds: Mapping[str, Tensor], resident: Mapping[str, Bound]) -> None:
        for name, spec in _without(self._inputs, resident).items():
            _view(slot.host[name], spec)[:] = feeds[name]
            self._in.copy(slot.host[name], slot.bound[name].memory)
        self._graph.compute.wait(self._in.record())
        self._graph.enqueue({**slot.bound, **resident})
        self._out.wait(self._graph.compute.record())
        slot.out = tuple(_without(self._outputs, resident))
        for name in slot.out:
            self._out.copy(slot.bound[name].memory, slot.host[name])
        slot.done = self._out.record()

    def collect(self) -> dict[str, Tensor]:
        """Wait for the oldest run; return its outputs by name, which are valid until the next run is submitted.

        Raises ModelError if the device failed.
        """
        self._graph.device.use()
        slot = self._in_flight.popleft()
        self._free.append(slot)
        assert slot.done is not None
        slot.done.wait()
        return {name: _view(slot.host[name], self._outputs[name]) for name in slot.out}

    def close(self) -> None:
        """Wait for runs in flight, discard their results, and release all memory. May be called twice."""
        if self._closed:
            return
        self._closed = True
        self._graph.device.use()
        self._in_flight.clear()
        with self._resources:
            for stream in (self._in, self._graph.compute, self._out):
                stream.record().wait()


def run_once(graph: DeviceGraph, feeds: Mapping[str, Tensor], outputs: Specs) -> dict[str, Tensor]:
    """Run a graph while no other run is in flight. The caller owns the outputs."""
    inputs = {name: Spec(value.shape, value.dtype) for name, value in feeds.items()}
    ring = Ring(graph, inputs, outputs, 1)
    try:
        ring.submit(feeds)
        return {name: value.copy() for name, value in ring.collect().items()}
    finally:
        ring.close()


def _slot(device: Device, specs: Specs, shared: dict[str, Bound], resources: ExitStack) -> _Slot:
    host = {name: _close_with(resources, device.host_memory(spec.nbytes)) for name, spec in specs.items()}
    return _Slot(host, {**shared, **_bound(device, specs, resources)})


def _bound(device: Device, specs: Specs, resources: ExitStack) -> dict[str, Bound]:
    return {name: Bound(spec, _close_with(resources, device.memory(spec.nbytes))) for name, spec in specs.items()}


def _without(specs: Specs, resident: Mapping[str, Bound]) -> Specs:
    return {name: spec for name, spec in specs.items() if name not in resident}


def _close_with(resources: ExitStack, resource: Resource) -> Resource:
    resources.callback(resource.close)
    return resource


def _view(memory: HostMemory, spec: Spec) -> Tensor:
    view: Tensor = memory.array.view(spec.dtype).reshape(spec.shape)
    return view
