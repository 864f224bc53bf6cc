"""Threads that take no more of the machine than others.

SVT-AV1, where root runs it, gives its threads real-time priority: while it encodes, nothing else on the machine runs. It only
does so where it may, which CAP_SYS_NICE says (capabilities(7)); capabilities are a thread's, and its children's.
"""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

VERSION_3 = 0x20080522  # linux/capability.h: two times effective, permitted, inheritable
CAP_SYS_NICE = 23


@contextmanager
def ordinary_priority() -> Iterator[None]:
    """Let no thread that is started inside, by this one, have real-time priority. On Linux; elsewhere nothing asks for it."""
    if sys.platform != "linux":
        yield
        return
    libc = ctypes.CDLL(None)
    header, sets = (ctypes.c_uint32 * 2)(VERSION_3, 0), (ctypes.c_uint32 * 6)()
    if libc.capget(header, sets) != 0:  # then this thread may not either
        yield
        return
    effective = sets[0]
    sets[0] = effective & ~(1 << CAP_SYS_NICE)
    libc.capset(header, sets)
    try:
        yield
    finally:
        sets[0] = effective
        libc.capset(header, sets)
