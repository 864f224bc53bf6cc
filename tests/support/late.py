"""Graphs on a device that runs late, and a device that skips one wait."""

from upres.engine.runtime.ort import OnnxRuntimeGraph
from upres.engine.runtime.ring.host import HostDevice, HostEvent, HostGraph, HostStream


class LateGraph(HostGraph):
    """An ONNX Runtime CPU graph that declares its tensors, queued on a host stream."""

    def __init__(self, graph, device, compute=None):
        super().__init__(graph, device, load=lambda model: OnnxRuntimeGraph(model, 1), compute=compute)

    def specs(self, sizes):
        return self._graph.specs(sizes)


class Hasty(HostDevice):
    """A device that skips one wait: of a stream for another stream's event, by their numbers, or of the host for a stream's event.

    waits: all waits that were requested.
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
    """Runs nothing until the host waits, and then only what is waited for, so that a missing wait shows as missing data."""

    def __init__(self, missing=None):
        super().__init__(0, missing)

    def run_some(self):
        pass

    def run_until(self, event):
        stream = next(stream for stream in self._streams if stream.handle == event.of)
        while not event.occurred:
            if not stream.ready:
                self.run_until(stream.awaited)
            stream.step()
