"""Graphs on a device that runs late, and a device of which one wait is missing."""

from upres.engine.runtime.ort import OnnxRuntimeGraph
from upres.engine.runtime.ring.host import HostDevice, HostEvent, HostGraph, HostStream


class LateGraph(HostGraph):
    """A graph of ONNX Runtime's CPU that says which tensors it has, queued on a stream of the host."""

    def __init__(self, graph, device, compute=None):
        super().__init__(graph, device, load=lambda model: OnnxRuntimeGraph(model, 1), compute=compute)

    def specs(self, sizes):
        return self._graph.specs(sizes)


class Hasty(HostDevice):
    """A device on which one wait is missing: of a stream for an event of another, by their numbers, or the host's for one's.

    waits: those that there were.
    """

    def __init__(self, seed, missing=None):
        super().__init__(seed)
        self.missing = missing
        self.waits = set()

    def stream(self):
        stream = super().stream()
        stream.__class__ = HastyStream
        return stream

    def leaves_out(self, wait):
        self.waits.add(wait)
        return wait == self.missing


class HastyStream(HostStream):
    @property
    def awaited(self):
        return self._queue[0]

    def wait(self, event):
        if not self._device.leaves_out((self.handle, event.of)):
            super().wait(event)

    def record(self):
        event = super().record()
        event.__class__ = HastyEvent
        event.of = self.handle
        return event


class HastyEvent(HostEvent):
    def wait(self):
        if not self._device.leaves_out(("host", self.of)):
            super().wait()


class Lazy(Hasty):
    """Does nothing before the host waits for it, and then no more than is waited for: what is not waited for is not there."""

    def __init__(self, missing=None):
        super().__init__(0, missing)

    def some(self):
        pass

    def until(self, event):
        stream = next(stream for stream in self._streams if stream.handle == event.of)
        while not event.come:
            if not stream.ready:
                self.until(stream.awaited)
            stream.step()
