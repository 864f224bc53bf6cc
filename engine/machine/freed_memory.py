"""Freed memory that this process keeps for its next allocation instead of returning it to the kernel."""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # parameters of mallopt(3)
NEVER = (1 << 31) - 1  # bytes; the largest number that mallopt accepts
LARGEST = 32 << 20  # bytes; the largest M_MMAP_THRESHOLD that all versions of glibc accept


def keep_freed_memory() -> None:
    """Make this process keep freed memory until it ends. Has no effect with C libraries other than glibc.

    Every segment has a new encoder, which allocates about 100 MB. By default glibc returns most of that to the kernel, which has to
    clear it for the next encoder, and more of it if several threads encode, because each allocates from a separate arena. The
    setting affects the whole process, so only programs call this, never functions that others call.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        for parameter, value in ((M_ARENA_MAX, 1), (M_MMAP_THRESHOLD, LARGEST), (M_TRIM_THRESHOLD, NEVER)):
            mallopt(parameter, value)
