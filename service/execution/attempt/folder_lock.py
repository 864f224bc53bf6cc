"""The lock of a job's folder, or of one of its ranges: one attempt at a time has it, on all machines, and says who it is.

The log that is written under it has a lock of its own, by which it is known to nobody but who writes it.
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

NOBODY_KNOWN = "an attempt that has not said where it runs"
MOST_CHARACTERS = 200  # of who it is: an attempt writes it, which may have been taken over


class LockedError(Exception):
    """Raised where another attempt holds a lock. holder: which."""

    def __init__(self, holder: str) -> None:
        super().__init__(f"it is held by {holder}")
        self.holder = holder


@contextmanager
def locked(path: Path, log: Path, seconds: float) -> Iterator[None]:
    """Hold a lock while inside; LockedError where another attempt holds it, or that of the log's folder, for so long.

    Of an attempt that has died the two may be released one after the other, by the file server of some machines much later.
    """
    lock, said, until = FileLock(path, timeout=seconds), path.with_suffix(".holder"), time.monotonic() + seconds
    try:
        lock.acquire()
    except Timeout as error:
        raise LockedError(_holder(said)) from error
    try:
        try:
            FolderLog.wait(log, max(0.0, until - time.monotonic()))
        except LogLockedError as error:
            raise LockedError(_holder(said)) from error
        with suppress(OSError):  # a full disk, which the attempt meets by itself
            said.write_text(f"process {os.getpid()} on {socket.gethostname()}")
        yield
    finally:
        lock.release()


def _holder(said: Path) -> str:
    try:
        with said.open() as file:
            return " ".join(file.read(MOST_CHARACTERS).split()) or NOBODY_KNOWN
    except (OSError, ValueError):
        return NOBODY_KNOWN
