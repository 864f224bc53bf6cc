"""An NVIDIA GPU as a device: only existing parts of cuda-core are used, and its errors are converted."""

import ctypes
import sys
import weakref
from collections import deque
from types import ModuleType

import numpy as np
import pytest
from small_networks import SMALL, frame, tensors

from upres.engine.core.errors import MemoryShortError, ModelError
from upres.engine.runtime.ort import OnnxRuntimeGraph
from upres.engine.runtime.ring import cuda
from upres.engine.runtime.ring.device import Spec
from upres.engine.runtime.ring.ring import Ring


class Buffer:
    """Device memory. there: whether every stream may use it."""

    def __init__(self, size, *, there):
        self.size, self.there = size, there
        self.bytes = (ctypes.c_uint8 * size)()
        self.handle = ctypes.addressof(self.bytes)
        self.closed = False

    def copy_to(self, target, *, stream):
        assert target.size == self.size
        stream.add(lambda: self._copied(target), self, target)

    def _copied(self, target):
        assert self.there and target.there
        ctypes.memmove(target.handle, self.handle, self.size)

    def fill(self, value, *, stream):
        stream.add(lambda: ctypes.memset(self.handle, value, self.size), self)

    def close(self):
        assert not any(self in memory for stream in Stream.all for _, memory in stream.queue)
        self.closed = True


class Event:
    def __init__(self, stream):
        self.stream, self.reached = stream, False

    def sync(self):
        while not self.reached:
            work, _ = self.stream.queue.popleft()
            work()


class Stream:
    """A stream that executes only on a wait, and only as much as the wait requires."""

    handle, all = 7, weakref.WeakSet()

    def __init__(self):
        self.queue = deque()
        self.all.add(self)

    def add(self, work, *memory):
        self.queue.append((work, memory))

    def record(self, *, options):
        assert options == {"blocking_sync": True}
        event = Event(self)
        self.add(lambda: setattr(event, "reached", True))
        return event

    def wait(self, event):
        self.add(event.sync)

    def close(self):
        pass


class DefaultStream(Stream):
    def sync(self):
        for buffer in self.allocated:
            buffer.there = True


class Core(ModuleType):
    """A fake of cuda-core on host memory. left: free bytes of the device."""

    def __init__(self, free_bytes):
        super().__init__("cuda.core")
        self.free_bytes, self.buffers, outer = free_bytes, [], self

        class Device:
            default_stream = DefaultStream()
            default_stream.allocated = outer.buffers

            def __init__(self, index):
                assert index == 0

            def set_current(self):
                pass

            def create_stream(self, *, options):
                assert options == {"nonblocking": True}
                return Stream()

            def allocate(self, size, *, stream):
                outer.free_bytes -= size
                if outer.free_bytes < 0:
                    raise RuntimeError("CUDA_ERROR_OUT_OF_MEMORY: the API call failed")
                outer.buffers.append(Buffer(size, there=False))
                return outer.buffers[-1]

        class LegacyPinnedMemoryResource:
            def allocate(self, size, *, stream):
                outer.buffers.append(Buffer(size, there=True))
                return outer.buffers[-1]

        self.Device, self.LegacyPinnedMemoryResource = Device, LegacyPinnedMemoryResource
        self.StreamOptions = self.EventOptions = dict


class Direct:
    """A graph on ONNX Runtime's CPU provider and host memory, in place of a GPU's."""

    def __init__(self, graph, device):
        self.graph, self.device, self.compute = graph, device, device.stream()

    def enqueue(self, bound):
        memory = [each.memory.buffer for each in bound.values()]
        self.compute._stream.add(lambda: self.graph.enqueue(bound), *memory)


@pytest.fixture
def device(monkeypatch):
    def of(free_bytes):
        core = Core(free_bytes)
        package = ModuleType("cuda")
        package.core = core
        monkeypatch.setitem(sys.modules, "cuda", package)
        monkeypatch.setitem(sys.modules, "cuda.core", core)
        monkeypatch.setattr(cuda, "find_spec", lambda name: True)
        monkeypatch.setattr(cuda.ctypes, "CDLL", lambda name: None)
        return cuda.CudaDevice(), core

    return of


def test_runs_go_through_pinned_memory_and_all_of_it_is_given_back(tmp_path, device):
    path = tmp_path / "small.onnx"
    path.write_bytes(SMALL.write(tensors(SMALL), SMALL.scale, "small"))
    graph, frames = OnnxRuntimeGraph(path, 1), [frame(12, 8, seed)[None] for seed in range(3)]
    kind = np.dtype(np.uint8)
    on, core = device(1 << 20)
    ring = Ring(Direct(graph, on), {"frame": Spec((1, 8, 12, 3), kind)}, {"upscaled": Spec((1, 32, 48, 3), kind)}, 2)
    for pixels in frames[:2]:
        ring.submit({"frame": pixels})
    np.testing.assert_array_equal(ring.collect()["upscaled"], graph.run({"frame": frames[0]})["upscaled"])
    ring.submit({"frame": frames[2]})
    for pixels in frames[1:]:
        np.testing.assert_array_equal(ring.collect()["upscaled"], graph.run({"frame": pixels})["upscaled"])
    ring.submit({"frame": frames[0]})
    ring.close()
    assert len(core.buffers) == 8
    assert all(buffer.closed for buffer in core.buffers)


def test_memory_is_cleared_in_the_order_of_its_stream(device):
    on, _ = device(100)
    stream, there, here = on.stream(), on.memory(8), on.host_memory(8)
    here.array[:] = 7
    stream.copy(here, there)
    stream.clear(there)
    stream.copy(there, here)
    assert here.array.tolist() == [7] * 8  # nothing has been executed yet
    stream.record().wait()
    assert here.array.tolist() == [0] * 8


def test_memory_that_is_short_is_told_from_other_errors(device):
    on, _ = device(100)
    with pytest.raises(MemoryShortError, match="the GPU has no memory left"):
        on.memory(101)
    with pytest.raises(ModelError, match="the GPU has failed"):
        on.memory("many")


def test_where_there_is_no_gpu_that_is_said(device, monkeypatch):
    _, core = device(0)

    def missing(index):
        raise RuntimeError("libcuda.so.1 is not there")

    monkeypatch.setattr(core, "Device", missing)
    with pytest.raises(ModelError, match="no NVIDIA GPU can be used: libcuda"):
        cuda.CudaDevice()


def test_where_there_is_no_driver_the_runtimes_say_so(monkeypatch):
    monkeypatch.setattr(cuda, "find_spec", lambda name: True)
    monkeypatch.setattr(cuda, "LIBRARY", "libno_driver.so.1")
    assert cuda.unavailable() == "no NVIDIA driver is installed (libno_driver.so.1 is missing)"
