"""The host as a device of its own, whose work is done as soon as it is queued: nothing is under way, so nothing is waited for."""

import numpy as np
from numpy.typing import NDArray

from upres.engine.core.errors import MemoryShortError

from .device import Event, Memory

ALIGNMENT = 64  # bytes, as runtimes lay out what they allocate themselves


class HostAtOnce:
    """Memory of the host, and streams that keep nothing back."""

    def use(self) -> None:
        """Do nothing: every thread may use the host."""

    def stream(self) -> "StreamAtOnce":
        """Make a stream."""
        return StreamAtOnce()

    def memory(self, nbytes: int) -> "HostArray":
        """Take memory; MemoryShortError where the host has none."""
        try:
            return HostArray(nbytes)
        except MemoryError as error:
            raise MemoryShortError(f"this machine has no {nbytes} bytes left") from error

    host_memory = memory


class HostArray:
    """Bytes of the host, of which nobody has written what they hold at first. array: of uint8."""

    def __init__(self, nbytes: int) -> None:
        whole = np.empty(nbytes + ALIGNMENT, np.uint8)
        first = -whole.ctypes.data % ALIGNMENT
        self.array: NDArray[np.uint8] = whole[first : first + nbytes]

    @property
    def address(self) -> int:
        """Return where it begins."""
        return self.array.ctypes.data

    def close(self) -> None:
        """Give it back."""
        self.array = self.array[:0].copy()


class StreamAtOnce:
    """Work that is done when it is queued. handle: no runtime asks for it."""

    handle = 0

    def copy(self, source: Memory, target: Memory) -> None:
        """Copy."""
        assert isinstance(source, HostArray) and isinstance(target, HostArray)
        np.copyto(target.array, source.array)

    def clear(self, memory: Memory) -> None:
        """Write zeros."""
        assert isinstance(memory, HostArray)
        memory.array.fill(0)

    def record(self) -> "StreamAtOnce":
        """Mark a place that everything has come to already."""
        return self

    def wait(self, event: Event | None = None) -> None:
        """Do nothing: every event of this device has come."""

    def close(self) -> None:
        """Do nothing: no work is left."""
