"""An NVIDIA GPU as a ring's device, using cuda-core."""

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
    """Return why there is no such device, as far as can be found without initializing the driver, and what to do about it."""
    # Parents first: looking up a submodule of a missing package raises an error.
    if not all(find_spec(name) for name in ("cuda", "cuda.core", "cuda.bindings")):
        return f"cuda-core is not installed; get it with: {INSTALL}"
    try:
        ctypes.CDLL(LIBRARY)
    except OSError:
        return f"no NVIDIA driver is installed ({LIBRARY} is missing)"
    return None


class CudaDevice:
    """The first GPU visible to this process, as selected by CUDA_VISIBLE_DEVICES."""

    def __init__(self) -> None:
        """Open the GPU. Raises ModelError if there is no driver or no GPU."""
        if reason := unavailable():
            raise ModelError(reason)
        from cuda import core

        self._core = core
        try:
            self._device = core.Device(0)
            self._device.set_current()
        except Exception as error:  # of many types: a missing library, a driver error
            raise ModelError(f"no NVIDIA GPU can be used: {error}") from error
        self._pinned = core.LegacyPinnedMemoryResource()

    def use(self) -> None:
        """Make this the calling thread's current device."""
        self._device.set_current()

    def stream(self) -> "CudaStream":
        """Create a stream that does not synchronize with the default one."""
        with _errors():
            return CudaStream(
                self._core, self._device.create_stream(options=self._core.StreamOptions(nonblocking=True))
            )

    def memory(self, nbytes: int) -> "CudaMemory":
        """Allocate GPU memory."""
        with _errors():
            buffer = self._device.allocate(nbytes, stream=self._device.default_stream)
            self._device.default_stream.sync()  # makes it usable on every stream
        return CudaMemory(buffer)

    def host_memory(self, nbytes: int) -> "PinnedMemory":
        """Allocate pinned host memory, which the GPU can access directly."""
        with _errors():
            return PinnedMemory(self._pinned.allocate(nbytes, stream=self._device.default_stream))


class CudaMemory:
    """A buffer of cuda-core."""

    def __init__(self, buffer: Any) -> None:  # noqa: ANN401 - the package has no types
        self.buffer = buffer

    @property
    def address(self) -> int:
        """Address of the first byte."""
        return int(self.buffer.handle)

    def close(self) -> None:
        """Release the memory."""
        self.buffer.close()


class PinnedMemory(CudaMemory):
    """Pinned host memory. array: its bytes."""

    def __init__(self, buffer: Any) -> None:  # noqa: ANN401
        super().__init__(buffer)
        self.array: NDArray[np.uint8] = np.ctypeslib.as_array((ctypes.c_uint8 * buffer.size).from_address(self.address))


class CudaStream:
    """A stream of cuda-core. handle: the address that runtimes use."""

    def __init__(self, core: Any, stream: Any) -> None:  # noqa: ANN401
        # Make the host sleep while it waits, because the decoder and the encoder need the cores.
        self._options = core.EventOptions(blocking_sync=True)
        self._stream = stream
        self.handle = int(stream.handle)

    def copy(self, source: Memory, target: Memory) -> None:
        """Enqueue a copy."""
        assert isinstance(source, CudaMemory) and isinstance(target, CudaMemory)
        with _errors():
            source.buffer.copy_to(target.buffer, stream=self._stream)

    def clear(self, memory: Memory) -> None:
        """Enqueue filling memory with zeros."""
        assert isinstance(memory, CudaMemory)
        with _errors():
            memory.buffer.fill(0, stream=self._stream)

    def record(self) -> "CudaEvent":
        """Record an event after all work enqueued so far."""
        with _errors():
            return CudaEvent(self._stream.record(options=self._options))

    def wait(self, event: Any) -> None:  # noqa: ANN401
        """Make work enqueued from now on start only after an event."""
        with _errors():
            self._stream.wait(event.event)

    def close(self) -> None:
        """Release the stream."""
        self._stream.close()


class CudaEvent:
    """An event of cuda-core."""

    def __init__(self, event: Any) -> None:  # noqa: ANN401
        self.event = event

    def wait(self) -> None:
        """Block the host until the event occurs. Raises ModelError if the work before it failed."""
        with _errors():
            self.event.sync()


@contextmanager
def _errors() -> Iterator[None]:
    """Convert driver errors to ModelError, and those about memory to MemoryShortError."""
    try:
        yield
    except Exception as error:
        if "OUT_OF_MEMORY" in str(error).upper().replace(" ", "_"):
            raise MemoryShortError(f"the GPU has no memory left: {error}") from error
        raise ModelError(f"the GPU has failed: {error}") from error
