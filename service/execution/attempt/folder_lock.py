"""The lock of a job's folder or of one of its ranges: one attempt on any machine holds it, and records its identity.

The log that is written under this lock has its own lock, which does not record its holder.
"""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from upres.engine.core.errors import LogLockedError
from upres.engine.segments.folder import FolderLog

UNKNOWN_HOLDER = "an attempt that has not recorded where it runs"
MAX_CHARACTERS = 200  # of the holder's description, which a compromised attempt may have written


class LockedError(Exception):
    """Raised if another attempt holds a lock. holder: description of that attempt."""

    def __init__(self, holder: str) -> None:
        super().__init__(f"it is held by {holder}")
        self.holder = holder


@contextmanager
def locked(path: Path, log: Path, seconds: float) -> Iterator[None]:
    """Hold a lock while the context is active; LockedError if another attempt holds it or the log folder's lock for `seconds`.

    After an attempt has died, its two locks may be released at different times, and by some machines' file server much later.
    """
    lock, holder_file, until = FileLock(path, timeout=seconds), path.with_suffix(".holder"), time.monotonic() + seconds
    try:
        lock.acquire()
    except Timeout as error:
        raise LockedError(_holder(holder_file)) from error
    try:
        try:
            FolderLog.wait(log, max(0.0, until - time.monotonic()))
        except LogLockedError as error:
            raise LockedError(_holder(holder_file)) from error
        with suppress(OSError):  # the disk is full, which the attempt will report itself
            holder_file.write_text(f"process {os.getpid()} on {socket.gethostname()}")
        yield
    finally:
        lock.release()


def _holder(holder_file: Path) -> str:
    try:
        with holder_file.open() as file:
            return " ".join(file.read(MAX_CHARACTERS).split()) or UNKNOWN_HOLDER
    except (OSError, ValueError):
        return UNKNOWN_HOLDER
