"""The host as a synchronous device: work is done when it is enqueued, so nothing is ever in flight."""

import numpy as np
from numpy.typing import NDArray

from upres.engine.core.errors import MemoryShortError

from .device import Event, Memory

ALIGNMENT = 64  # bytes, as runtimes align their own allocations


class HostAtOnce:
    """Device whose memory is host memory and whose streams execute immediately."""

    def use(self) -> None:
        """Do nothing: all threads can use the host."""

    def stream(self) -> "StreamAtOnce":
        """Create a stream."""
        return StreamAtOnce()

    def memory(self, nbytes: int) -> "HostArray":
        """Allocate memory. Raises MemoryShortError if the host has none left."""
        try:
            return HostArray(nbytes)
        except MemoryError as error:
            raise MemoryShortError(f"this machine has no {nbytes} bytes left") from error

    host_memory = memory


class HostArray:
    """Uninitialized host memory. array: its bytes as uint8."""

    def __init__(self, nbytes: int) -> None:
        whole = np.empty(nbytes + ALIGNMENT, np.uint8)
        first = -whole.ctypes.data % ALIGNMENT
        self.array: NDArray[np.uint8] = whole[first : first + nbytes]

    @property
    def address(self) -> int:
        """Address of the first byte."""
        return self.array.ctypes.data

    def close(self) -> None:
        """Release the memory."""
        self.array = self.array[:0].copy()


class StreamAtOnce:
    """Stream whose work is done when it is enqueued. handle: unused by runtimes."""

    handle = 0

    def copy(self, source: Memory, target: Memory) -> None:
        """Copy memory."""
        assert isinstance(source, HostArray) and isinstance(target, HostArray)
        np.copyto(target.array, source.array)

    def clear(self, memory: Memory) -> None:
        """Fill memory with zeros."""
        assert isinstance(memory, HostArray)
        memory.array.fill(0)

    def record(self) -> "StreamAtOnce":
        """Return an event that has already occurred."""
        return self

    def wait(self, event: Event | None = None) -> None:
        """Do nothing: every event of this device has already occurred."""

    def close(self) -> None:
        """Do nothing: no work is pending."""
