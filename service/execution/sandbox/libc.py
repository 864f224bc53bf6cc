"""The C library, for system calls that Python has no function for."""

import ctypes
from functools import cache


@cache
def libc() -> ctypes.CDLL:
    """Open the library, once per process: each opening creates a class, which costs more than most of the calls."""
    return ctypes.CDLL(None, use_errno=True)
