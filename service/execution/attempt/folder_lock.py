"""The lock of a job's folder, or of one of its ranges: one attempt at a time has it, on all machines, and says who it is."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

NOBODY_KNOWN = "an attempt that has not said where it runs"
MOST_CHARACTERS = 200  # of who it is: an attempt writes it, which may have been taken over


class LockedError(Exception):
    """Raised where another attempt holds a lock. holder: which."""

    def __init__(self, holder: str) -> None:
        super().__init__(f"it is held by {holder}")
        self.holder = holder


@contextmanager
def locked(path: Path, seconds: float) -> Iterator[None]:
    """Hold a lock while inside; LockedError where another attempt holds it for so long."""
    lock, said = FileLock(path, timeout=seconds), path.with_suffix(".holder")
    try:
        lock.acquire()
    except Timeout as error:
        raise LockedError(_holder(said)) from error
    try:
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
