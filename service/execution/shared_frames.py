"""Memory that an attempt and its worker share, where frames pass between them; on Linux.

The worker makes it, once for an attempt, and the attempt gets its descriptor by their socket. It has no name in any file
system: the kernel frees it with the last of the two processes, however they end. Its size is sealed, so that no page can be
taken from under the other's feet. An attempt may write to it at any time, so the worker copies what it receives before anything
looks at it, and it is nothing but pixels: where they lie and how many they are is checked against what was agreed at first.
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

SLOTS = 2  # for frames: one is filled while the other is emptied
UPSCALED_SLOTS = 4  # for one that is filled, one that waits between two stages, and one that each stage works on

PixelType: TypeAlias = "np.dtype[np.uint8 | np.uint16]"
Sizes = tuple[int, int]  # bytes of a frame, and of an upscaled one


class SharedFrames:
    """One end; frames are sent by one thread, and received by one.

    memory: all of it, mapped for as long as this lives; a device that is fed from it may have it registered once.
    sends, receives: the offsets of the slots each way; their step is their size. lends: whether a frame may stay in its slot
    while it is used, because the other end is trusted to leave it alone.
    """

    def __init__(
        self, memory: mmap.mmap, permits: socket.socket, sends: range, receives: range, *, lends: bool = False
    ) -> None:
        self.memory = memory
        self._permits = permits  # the number of each slot that has become free
        self._sends = sends
        self._receives = receives
        self._lends = lends
        self._free = deque(range(len(sends)))  # and never used yet
        self._lent: set[int] = set()

    @classmethod
    def attach(cls, descriptor: int, permits: socket.socket, sizes: Sizes) -> "SharedFrames":
        """Map what the worker has made, in the attempt. Takes the descriptor and the socket over."""
        frames, upscaled = _slots(sizes)
        return cls(_mapped(descriptor, sizes), permits, sends=frames, receives=upscaled, lends=True)

    def put(self, pixels: Pixels) -> int | None:
        """Copy a frame's pixels into a slot, once one is free, and return its number; None where they do not fit.

        Raises OSError where the other end is gone, TimeoutError where it keeps every slot for too long.
        """
        if pixels.nbytes > self._sends.step:
            return None
        slot = self._free.popleft() if self._free else self._freed()
        np.copyto(_view(self.memory, self._sends[slot], pixels.shape, pixels.dtype), pixels)
        return slot

    def take(self, slot: object, shape: tuple[int, ...], kind: PixelType) -> Pixels:
        """Return the frame in a slot, of this shape and type, which is free once the frame is no longer used.

        It is a copy where the other end is not trusted, or else no slot would be left. Raises FramingError where there is no
        such slot, or no such room in it.
        """
        slots = self._receives
        if type(slot) is not int or not 0 <= slot < len(slots) or math.prod(shape) * kind.itemsize > slots.step:
            raise FramingError(f"a frame of {shape[1]}x{shape[0]} in a slot {slot!r} of {slots.step} bytes")
        pixels = _view(self.memory, slots[slot], shape, kind)
        if self._lends and len(self._lent) < len(slots) - 1:
            self._lent.add(slot)
            weakref.finalize(pixels, self._returned, slot)
            return pixels
        pixels = pixels.copy()
        self._permits.sendall(bytes((slot,)))
        return pixels

    def limit(self, seconds: float) -> None:
        """Raise TimeoutError from now on where the other end frees no slot for so long."""
        self._permits.settimeout(seconds)

    def close(self) -> None:
        """Release it; the memory itself once the other end has as well."""
        self._permits.close()
        with suppress(BufferError):  # a frame is still used, with which the mapping goes
            self.memory.close()

    def _freed(self) -> int:
        """Wait for a slot to become free."""
        permit = self._permits.recv(1)
        if not permit:
            raise BrokenPipeError("the other end is gone")
        if permit[0] >= len(self._sends):
            raise FramingError(f"a slot {permit[0]}, which there is not")
        return permit[0]

    def _returned(self, slot: int) -> None:
        """Free a slot, from whatever thread has used its frame last."""
        self._lent.discard(slot)
        with suppress(OSError):  # the other end needs none any more
            self._permits.sendall(bytes((slot,)))


def create(sizes: Sizes) -> tuple[SharedFrames, int, socket.socket] | None:
    """Make memory for frames of these sizes in the worker; None where the system has none that can be shared so.

    Returns its end, and the descriptor and the socket that the attempt's end is made of, for the caller to send and close.
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
        ours, theirs = socket.socketpair()
    except OSError:
        os.close(descriptor)
        return None
    frames, upscaled = _slots(sizes)
    return SharedFrames(_mapped(os.dup(descriptor), sizes), ours, sends=upscaled, receives=frames), descriptor, theirs


def shared_bytes(sizes: Sizes) -> int:
    """Count the bytes that are shared for frames of these sizes."""
    return _slots(sizes)[1].stop


def _slots(sizes: Sizes) -> tuple[range, range]:
    """Lay out the slots for frames, and behind them those for upscaled ones: offsets, at the beginning of pages."""
    frame, upscaled = (-(-size // mmap.PAGESIZE) * mmap.PAGESIZE for size in sizes)
    start = SLOTS * frame
    return range(0, start, frame), range(start, start + UPSCALED_SLOTS * upscaled, upscaled)


def _mapped(descriptor: int, sizes: Sizes) -> mmap.mmap:
    """Map all of it, and close the descriptor."""
    try:
        return mmap.mmap(descriptor, shared_bytes(sizes))
    finally:
        os.close(descriptor)


def _view(memory: mmap.mmap, offset: int, shape: tuple[int, ...], kind: PixelType) -> Pixels:
    return np.ndarray(shape, kind, memory, offset)
