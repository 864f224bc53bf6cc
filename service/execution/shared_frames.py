"""Shared memory through which an attempt and its worker exchange frames; Linux only.

The worker creates it once per attempt, and the attempt receives its file descriptor over their socket. It has no name in any
file system: the kernel frees it when the last of the two processes ends. Its size is sealed, so that neither side can shrink it
while the other uses it. An attempt may write to it at any time, so the worker copies a frame before it processes it. The memory
holds only pixels; their position and size are checked against the layout that was agreed at the start.
"""

import fcntl
import math
import mmap
import os
import socket
import weakref
from collections import deque
from contextlib import suppress
from typing import TypeAlias

import numpy as np

from upres.engine.core.frame import Pixels
from upres.service.live.framing import FramingError

SLOTS = 2  # for frames: one is written while the other is read
PADDING = mmap.PAGESIZE  # bytes after the last slot, because encoders may read a few bytes beyond a frame
UPSCALED_SLOTS = 4  # one being written, one queued between two stages, and one for each of the two stages

PixelType: TypeAlias = "np.dtype[np.uint8 | np.uint16]"
Sizes = tuple[int, int]  # bytes of a frame and of an upscaled frame


class SharedFrames:
    """One end of the shared memory. One thread sends frames and one receives them.

    memory: the whole mapping, valid as long as this object; a device that reads from it may register it once.
    sends, receives: the offsets of the slots in each direction; the range's step is the slot's size. lends: whether a received
    frame may stay in its slot while it is used, because the other end is trusted not to modify it.
    """

    def __init__(
        self, memory: mmap.mmap, permits: socket.socket, sends: range, receives: range, *, lends: bool = False
    ) -> None:
        self.memory = memory
        self._permits = permits  # carries the number of each slot that becomes free
        self._sends = sends
        self._receives = receives
        self._lends = lends
        self._free = deque(range(len(sends)))  # slots not used so far
        self._lent: set[int] = set()

    @classmethod
    def attach(cls, descriptor: int, permits: socket.socket, sizes: Sizes) -> "SharedFrames":
        """Map, in the attempt, the memory that the worker created. Takes ownership of the descriptor and the socket."""
        frames, upscaled = _slots(sizes)
        return cls(_map(descriptor, sizes), permits, sends=frames, receives=upscaled, lends=True)

    def put(self, pixels: Pixels) -> int | None:
        """Copy a frame's pixels into the next free slot and return its number; None if they do not fit.

        Raises OSError if the other end is gone, TimeoutError if it frees no slot within the timeout.
        """
        if pixels.nbytes > self._sends.step:
            return None
        slot = self._free.popleft() if self._free else self._wait_free()
        np.copyto(_view(self.memory, self._sends[slot], pixels.shape, pixels.dtype), pixels)
        return slot

    def take(self, slot: object, shape: tuple[int, ...], kind: PixelType) -> Pixels:
        """Return the frame in a slot, of this shape and type; the slot is released once the frame is no longer used.

        The frame is copied if the other end is not trusted, or if no slot would be left otherwise. Raises FramingError if there is
        no such slot or the frame does not fit in it.
        """
        slots = self._receives
        if type(slot) is not int or not 0 <= slot < len(slots) or math.prod(shape) * kind.itemsize > slots.step:
            raise FramingError(f"a frame of {shape[1]}x{shape[0]} in a slot {slot!r} of {slots.step} bytes")
        pixels = _view(self.memory, slots[slot], shape, kind)
        if self._lends and len(self._lent) < len(slots) - 1:
            self._lent.add(slot)
            weakref.finalize(pixels, self._release, slot)
            return pixels
        pixels = pixels.copy()
        self._permits.sendall(bytes((slot,)))
        return pixels

    def limit(self, seconds: float) -> None:
        """Set the timeout: from now on, raise TimeoutError if the other end frees no slot for `seconds`."""
        self._permits.settimeout(seconds)

    def close(self) -> None:
        """Close this end; the memory itself is freed once the other end is closed too."""
        self._permits.close()
        with suppress(BufferError):  # a frame is still in use; the mapping is freed with it
            self.memory.close()

    def _wait_free(self) -> int:
        """Wait for a slot to become free and return its number."""
        permit = self._permits.recv(1)
        if not permit:
            raise BrokenPipeError("the other end is gone")
        if permit[0] >= len(self._sends):
            raise FramingError(f"there is no slot {permit[0]}")
        return permit[0]

    def _release(self, slot: int) -> None:
        """Release a slot, from the thread that dropped the last reference to its frame."""
        self._lent.discard(slot)
        with suppress(OSError):  # the other end is closed
            self._permits.sendall(bytes((slot,)))


def create(sizes: Sizes) -> tuple[SharedFrames, int, socket.socket] | None:
    """Create shared memory for frames of these sizes in the worker; None if the system does not support it.

    Returns the worker's end, and the descriptor and the socket of the attempt's end, which the caller sends and closes.
    """
    if not hasattr(os, "memfd_create"):
        return None
    try:
        descriptor = os.memfd_create("upres-frames", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except OSError:
        return None
    try:
        os.ftruncate(descriptor, shared_bytes(sizes))
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        own_end, peer_end = socket.socketpair()
    except OSError:
        os.close(descriptor)
        return None
    frames, upscaled = _slots(sizes)
    return SharedFrames(_map(os.dup(descriptor), sizes), own_end, sends=upscaled, receives=frames), descriptor, peer_end


def shared_bytes(sizes: Sizes) -> int:
    """Return the number of shared bytes for frames of these sizes."""
    return _slots(sizes)[1].stop + PADDING


def _slots(sizes: Sizes) -> tuple[range, range]:
    """Return the page-aligned offsets of the slots for frames, followed by those for upscaled frames."""
    frame, upscaled = (-(-size // mmap.PAGESIZE) * mmap.PAGESIZE for size in sizes)
    start = SLOTS * frame
    return range(0, start, frame), range(start, start + UPSCALED_SLOTS * upscaled, upscaled)


def _map(descriptor: int, sizes: Sizes) -> mmap.mmap:
    """Map the whole memory, and close the descriptor."""
    try:
        return mmap.mmap(descriptor, shared_bytes(sizes))
    finally:
        os.close(descriptor)


def _view(memory: mmap.mmap, offset: int, shape: tuple[int, ...], kind: PixelType) -> Pixels:
    return np.ndarray(shape, kind, memory, offset)
