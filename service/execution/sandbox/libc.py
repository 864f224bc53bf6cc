"""The C library, by which a process asks the kernel for what Python has no call for."""

import ctypes
from functools import cache


@cache
def libc() -> ctypes.CDLL:
    """Open it, once in a process: each opening makes a class, which costs more than most of these calls."""
    return ctypes.CDLL(None, use_errno=True)
