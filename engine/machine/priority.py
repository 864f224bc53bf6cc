"""Threads without real-time priority.

When run by root, SVT-AV1 gives its threads real-time priority, so that nothing else runs on the machine while it encodes. It does
so only if permitted by CAP_SYS_NICE (capabilities(7)); capabilities belong to a thread and are inherited by the threads it starts.
"""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

VERSION_3 = 0x20080522  # linux/capability.h: two times effective, permitted, inheritable
CAP_SYS_NICE = 23


@contextmanager
def ordinary_priority() -> Iterator[None]:
    """Prevent threads started inside by this thread from using real-time priority. Has no effect outside Linux."""
    if sys.platform != "linux":
        yield
        return
    libc = ctypes.CDLL(None)
    header, sets = (ctypes.c_uint32 * 2)(VERSION_3, 0), (ctypes.c_uint32 * 6)()
    if libc.capget(header, sets) != 0:  # then real-time priority is not permitted either
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
