"""An NVIDIA GPU as a ring's device, over cuda-core."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upres.engine.core.errors import MemoryShortError, ModelError
from upres.engine.machine.device_memory import LIBRARY

from .device import Memory

INSTALL = "pip install 'upres[cuda]'"


def unavailable() -> str | None:
    """Say why there is no such device, as far as that is known without waking the driver, and what to do about it."""
    # The parent first: to look below one that is missing is an error.
    if not all(find_spec(name) for name in ("cuda", "cuda.core", "cuda.bindings")):
        return f"cuda-core is not installed; get it with: {INSTALL}"
    try:
        ctypes.CDLL(LIBRARY)
    except OSError:
        return f"no NVIDIA driver is here ({LIBRARY} is missing)"
    return None


class CudaDevice:
    """The first GPU that this process sees; CUDA_VISIBLE_DEVICES says which one that is."""

    def __init__(self) -> None:
        """Open the GPU; ModelError where no driver or no GPU is here."""
        if reason := unavailable():
            raise ModelError(reason)
        from cuda import core

        self._core = core
        try:
            self._device = core.Device(0)
            self._device.set_current()
        except Exception as error:  # of many kinds: a library that is not there, an error of the driver
            raise ModelError(f"no NVIDIA GPU can be used: {error}") from error
        self._pinned = core.LegacyPinnedMemoryResource()

    def use(self) -> None:
        """Make it the calling thread's device."""
        self._device.set_current()

    def stream(self) -> "CudaStream":
        """Make a stream that does not wait for the default one."""
        with _errors():
            return CudaStream(
                self._core, self._device.create_stream(options=self._core.StreamOptions(nonblocking=True))
            )

    def memory(self, nbytes: int) -> "CudaMemory":
        """Take memory of the GPU."""
        with _errors():
            buffer = self._device.allocate(nbytes, stream=self._device.default_stream)
            self._device.default_stream.sync()  # it is there for every stream
        return CudaMemory(buffer)

    def host_memory(self, nbytes: int) -> "PinnedMemory":
        """Take memory of the host that stays where it is, so that the GPU copies it by itself."""
        with _errors():
            return PinnedMemory(self._pinned.allocate(nbytes, stream=self._device.default_stream))


class CudaMemory:
    """A buffer of cuda-core."""

    def __init__(self, buffer: Any) -> None:  # noqa: ANN401 - the package has no types
        self.buffer = buffer

    @property
    def address(self) -> int:
        """Return where it begins."""
        return int(self.buffer.handle)

    def close(self) -> None:
        """Give it back."""
        self.buffer.close()


class PinnedMemory(CudaMemory):
    """A buffer of the host that is pinned. array: its bytes."""

    def __init__(self, buffer: Any) -> None:  # noqa: ANN401
        super().__init__(buffer)
        self.array: NDArray[np.uint8] = np.ctypeslib.as_array((ctypes.c_uint8 * buffer.size).from_address(self.address))


class CudaStream:
    """A stream of cuda-core. handle: the address that runtimes take."""

    def __init__(self, core: Any, stream: Any) -> None:  # noqa: ANN401
        # The host sleeps while it waits: decoder and encoder want the cores.
        self._options = core.EventOptions(blocking_sync=True)
        self._stream = stream
        self.handle = int(stream.handle)

    def copy(self, source: Memory, target: Memory) -> None:
        """Queue a copy."""
        assert isinstance(source, CudaMemory) and isinstance(target, CudaMemory)
        with _errors():
            source.buffer.copy_to(target.buffer, stream=self._stream)

    def clear(self, memory: Memory) -> None:
        """Queue zeros."""
        assert isinstance(memory, CudaMemory)
        with _errors():
            memory.buffer.fill(0, stream=self._stream)

    def record(self) -> "CudaEvent":
        """Mark the place behind all that is queued so far."""
        with _errors():
            return CudaEvent(self._stream.record(options=self._options))

    def wait(self, event: Any) -> None:  # noqa: ANN401
        """Let what is queued from here on begin only after an event."""
        with _errors():
            self._stream.wait(event.event)

    def close(self) -> None:
        """Release it."""
        self._stream.close()


class CudaEvent:
    """An event of cuda-core."""

    def __init__(self, event: Any) -> None:  # noqa: ANN401
        self.event = event

    def wait(self) -> None:
        """Wait on the host; ModelError where the work before it has failed."""
        with _errors():
            self.event.sync()


@contextmanager
def _errors() -> Iterator[None]:
    """Raise what the driver says as a ModelError, of missing memory as a MemoryShortError."""
    try:
        yield
    except Exception as error:
        if "OUT_OF_MEMORY" in str(error).upper().replace(" ", "_"):
            raise MemoryShortError(f"the GPU has no memory left: {error}") from error
        raise ModelError(f"the GPU has failed: {error}") from error
