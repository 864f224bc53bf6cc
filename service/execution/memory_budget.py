"""The memory that the attempts of one worker may take together: each waits until what it is predicted to take fits."""

import threading
import time
from collections import deque
from collections.abc import Callable
from math import inf
from pathlib import Path

import psutil
from rich.filesize import decimal

from upres.engine.core.errors import SourceError
from upres.engine.core.text import number
from upres.engine.pipeline.encoders import SPARE_PART
from upres.service.domain.errors import NoRoomError

SHARE = 0.9  # of what is free: predictions are no promises
LOOK_SECONDS = 1.0  # between two looks whether the one that waits is still there
CGROUP = Path("/sys/fs/cgroup")  # version 2, which containers see their own limit in


def usable_memory(cgroup: Path = CGROUP) -> int:
    """Return most of the bytes that are free now: of the machine, and of the container that this is in."""
    free = psutil.virtual_memory().available
    try:
        limit, used = (int((cgroup / name).read_text()) for name in ("memory.max", "memory.current"))
        used -= _reclaimable(cgroup)
    except (OSError, ValueError):  # there is no limit, which reads "max", or no cgroup
        limit, used = free, 0
    return int(SHARE * min(free, max(0, limit - used)))


def _reclaimable(cgroup: Path) -> int:
    """Return the bytes of files that the kernel keeps while nobody needs them: they fill a container, and are as good as free."""
    lines = (line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
    return sum(int(value) for name, value in lines if name in ("active_file", "inactive_file"))


class MemoryBudget:
    """total: bytes. First come, first served, so that a large job is not kept waiting by small ones behind it.

    What cannot wait is served before those who do, where it fits.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._reserved = 0
        self._waiting: deque[object] = deque()
        self._changed = threading.Condition()

    def reserve(self, size: int, gone: Callable[[], bool], *, longest: float = inf) -> None:
        """Take `size` bytes; waits until they are free, for at most `longest` seconds, unless whom they are for is gone.

        Raises SourceError where there will never be as many, NoRoomError where there are not in time, TimeoutError where it
        is gone.
        """
        if size > self._total:
            raise SourceError(
                f"this needs about {decimal(size)} of memory, and {decimal(self._total)} are there for jobs; "
                "choose a smaller scale or a smaller source"
            )
        place, until = object(), time.monotonic() + longest
        with self._changed:
            self._waiting.append(place)
            try:
                while not self._fits(size, place, first=not longest):
                    left = until - time.monotonic()
                    if left <= 0:
                        held = f"have held for {number(longest)} s" if longest else "hold now"
                        raise NoRoomError(
                            f"this needs about {decimal(size)} of memory, which other jobs {held}; try again later"
                        )
                    if gone():
                        raise TimeoutError("the attempt is gone")
                    self._changed.wait(min(left, LOOK_SECONDS))
                self._reserved += size
            finally:
                self._waiting.remove(place)
                self._changed.notify_all()

    def grant(self, size: int, most: int) -> int:
        """Take up to `most` times `size` bytes beyond what was reserved, and return how often.

        Nobody is kept waiting for it: it takes no more than a quarter of all, and nothing while others wait.
        """
        with self._changed:
            room = 0 if self._waiting else min(self._total // SPARE_PART, self._total - self._reserved)
            count = max(0, min(most, room // size))
            self._reserved += count * size
            return count

    def release(self, size: int) -> None:
        """Give bytes back."""
        with self._changed:
            self._reserved -= size
            self._changed.notify_all()

    def _fits(self, size: int, place: object, *, first: bool) -> bool:
        return (first or self._waiting[0] is place) and self._reserved + size <= self._total
