"""The memory budget of one worker: each attempt waits until its predicted memory use fits."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from math import inf
from pathlib import Path
from typing import Protocol

import psutil
from rich.filesize import decimal

from upres.engine.core.errors import SourceError
from upres.engine.core.text import number
from upres.engine.pipeline.encoders import SPARE_MEMORY_DIVISOR
from upres.service.domain.errors import NoRoomError

SHARE = 0.9  # of the free memory, because predictions may be wrong
MERGING_PART = 16  # attempts that merge ranges may use 1/16 of the memory, in addition to it
CHECK_SECONDS = 1.0  # between two checks that the waiting attempt still exists
CGROUP = Path("/sys/fs/cgroup")  # version 2, in which containers see their own limit


class OnWait(Protocol):
    """Callback for a wait: called when it starts, whenever the holders change during it, and when it is over.

    holding: names of the orders that hold some of the resource.
    """

    def __call__(self, *, waits: bool, holding: Sequence[str]) -> None:
        """Handle the notification."""


class Wait:
    """Reports of one wait. on_wait: callback that may take long, so no lock is held while it runs."""

    def __init__(self, on_wait: OnWait) -> None:
        self._on_wait = on_wait
        self._holding: Sequence[str] | None = None

    def until(
        self,
        try_take: Callable[[float], bool],
        holders: Callable[[], Sequence[str]],
        attempt_ended: Callable[[], bool],
        longest: float,
    ) -> bool:
        """Wait until the resource is acquired, for at most `longest` seconds; return whether it was.

        Raises TimeoutError once the attempt has ended.

        try_take: tries to acquire the resource within the given seconds; returns whether it did. holders: lists current holders.
        attempt_ended: reports whether the attempt that waits has ended.
        """
        end, seconds = time.monotonic() + longest, 0.0
        while not try_take(seconds):
            if (remaining := end - time.monotonic()) <= 0:
                return False
            if attempt_ended():
                raise TimeoutError("the attempt is gone")
            if (holding := holders()) != self._holding:
                self._holding = holding
                self._on_wait(waits=True, holding=holding)
            seconds = min(remaining, CHECK_SECONDS)
        return True

    def over(self) -> None:
        """Report that the wait is over, if one was reported."""
        if self._holding is not None:
            self._on_wait(waits=False, holding=[])


def usable_memory(cgroup: Path = CGROUP) -> int:
    """Return 90 % of the bytes that are free now, on the machine and within this process's container."""
    free = psutil.virtual_memory().available
    try:
        limit, used = (int((cgroup / name).read_text()) for name in ("memory.max", "memory.current"))
        used -= _reclaimable(cgroup)
    except (OSError, ValueError):  # the limit is "max", or there is no cgroup
        limit, used = free, 0
    return int(SHARE * min(free, max(0, limit - used)))


def _reclaimable(cgroup: Path) -> int:
    """Return the bytes of the page cache: they count as used by the container, but the kernel frees them on demand."""
    lines = (line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
    return sum(int(value) for name, value in lines if name in ("active_file", "inactive_file"))


class MemoryBudget:
    """A budget of `total` bytes. Among those that wait, the owner that holds least is served first, then the order of arrival.

    So small jobs cannot keep a large one waiting indefinitely, and an owner with ever more requests cannot starve the others.
    Requests that cannot wait are served before those that do, if they fit.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._reserved: Counter[str] = Counter()  # bytes by owner
        self._orders: Counter[str] = Counter()  # and by order
        self._waiting: dict[object, str] = {}  # owners, in order of arrival
        self._changed = threading.Condition()

    @property
    def counts(self) -> tuple[int, int, int]:
        """Return the bytes reserved, the total, and the number of waiting requests. From any thread."""
        with self._changed:
            return self._reserved.total(), self._total, len(self._waiting)

    @property
    def holders(self) -> list[str]:
        """Return the names of the orders that hold memory. From any thread."""
        with self._changed:
            return [*self._orders]

    def reserve(
        self,
        size: int,
        attempt_ended: Callable[[], bool],
        *,
        owner: str = "",
        name: str = "",
        longest: float = inf,
        on_wait: OnWait = lambda *, waits, holding: None,
    ) -> None:
        """Reserve `size` bytes for an order; wait until they are free, for at most `longest` seconds, unless the attempt has ended.

        Raises SourceError if the budget is too small in total, NoRoomError if the bytes are not free in time, TimeoutError if the
        attempt has ended.
        """
        if size > self._total:
            raise SourceError(
                f"this needs about {decimal(size)} of memory, but only {decimal(self._total)} are available to jobs; "
                "choose a smaller scale or a smaller source"
            )
        place, wait = object(), Wait(on_wait)
        with self._changed:
            self._waiting[place] = owner
        try_take = partial(self._try_reserve, size, place, name, any_turn=not longest)
        try:
            if not wait.until(try_take, lambda: self.holders, attempt_ended, longest):
                problem = f"have held for {number(longest)} s" if longest else "hold now"
                raise NoRoomError(
                    f"this needs about {decimal(size)} of memory, which other jobs {problem}; try again later"
                )
        finally:
            with self._changed:
                del self._waiting[place]
                self._changed.notify_all()
            wait.over()

    def _try_reserve(self, size: int, place: object, name: str, seconds: float, *, any_turn: bool) -> bool:
        """Reserve bytes as soon as they are free and it is their turn, within `seconds`; return whether they were."""
        with self._changed:
            fits = self._changed.wait_for(lambda: self._fits(size, place, first=any_turn), seconds)
            if fits:
                self._change(size, self._waiting[place], name)
            return fits

    def grant(self, size: int, most: int, *, owner: str = "", name: str = "") -> int:
        """Reserve up to `most` blocks of `size` bytes beyond what was reserved, and return their number.

        This never keeps another attempt waiting: it uses at most a quarter of the total, and nothing while others wait.
        """
        with self._changed:
            room = (
                0 if self._waiting else min(self._total // SPARE_MEMORY_DIVISOR, self._total - self._reserved.total())
            )
            count = max(0, min(most, room // size))
            self._change(count * size, owner, name)
            return count

    def release(self, size: int, *, owner: str = "", name: str = "") -> None:
        """Release bytes."""
        with self._changed:
            self._change(-size, owner, name)
            self._changed.notify_all()

    def _change(self, size: int, owner: str, name: str) -> None:
        self._reserved[owner] += size
        self._orders[name] += size
        self._reserved += Counter()  # drops entries of zero bytes
        self._orders += Counter()

    def _fits(self, size: int, place: object, *, first: bool) -> bool:
        next_ = min(self._waiting, key=lambda place: self._reserved[self._waiting[place]])
        return (first or next_ is place) and self._reserved.total() + size <= self._total


class Claim:
    """The share of a budget that one attempt has reserved or waits for. owner: the job's owner. name: the order's name.

    longest: maximum wait in seconds; None sets no limit. on_wait: callback for its waits.
    """

    def __init__(
        self,
        budget: MemoryBudget,
        owner: str = "",
        name: str = "",
        *,
        longest: float | None = None,
        on_wait: OnWait = lambda *, waits, holding: None,
    ) -> None:
        self.reserved = 0  # bytes
        self._budget = budget
        self._identity = {"owner": owner, "name": name}
        self._longest = inf if longest is None else longest
        self._on_wait = on_wait
        self._since: float | None = None
        self._waited = 0.0

    @property
    def waited(self) -> float:
        """Return the seconds that it has waited so far. From any thread."""
        since = self._since
        return self._waited + (0.0 if since is None else time.monotonic() - since)

    def take_now(self, size: int) -> bool:
        """Reserve bytes only if they are free now, ahead of all waiting requests; return whether they were reserved."""
        try:
            self._budget.reserve(size, lambda: False, **self._identity, longest=0.0, on_wait=self._on_wait)
        except NoRoomError:
            return False
        self.reserved += size
        return True

    def reserve(self, size: int, attempt_ended: Callable[[], bool]) -> None:
        """Reserve bytes as soon as they are free; raises the same errors as MemoryBudget.reserve."""

        def take(longest: float) -> None:
            self._budget.reserve(size, attempt_ended, **self._identity, longest=longest, on_wait=self._on_wait)

        self.wait(take)
        self.reserved += size

    def wait(self, take: Callable[[float], None]) -> None:
        """Wait for another shared resource, and count the time. take: waits for it, at most the given seconds."""
        self._since = since = time.monotonic()
        try:
            take(self._longest)
        finally:
            self._since, self._waited = None, self._waited + time.monotonic() - since

    def grant(self, size: int, most: int) -> int:
        """Reserve up to `most` additional blocks of `size` bytes that no other attempt waits for; return their number."""
        count = self._budget.grant(size, most, **self._identity)
        self.reserved += count * size
        return count

    def release(self) -> None:
        """Release everything."""
        self._budget.release(self.reserved, **self._identity)
        self.reserved = 0
