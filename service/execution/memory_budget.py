"""The memory that the attempts of one worker may take together: each waits until what it is predicted to take fits."""

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
from upres.engine.pipeline.encoders import SPARE_PART
from upres.service.domain.errors import NoRoomError

SHARE = 0.9  # of what is free: predictions are no promises
MERGING_PART = 16  # attempts that merge what others make may take one part in so many of the memory, and beside it
LOOK_SECONDS = 1.0  # between two looks whether the one that waits is still there
CGROUP = Path("/sys/fs/cgroup")  # version 2, which containers see their own limit in


class OnWait(Protocol):
    """Called when an order begins to wait for something, whenever others hold it meanwhile, and when the wait is over.

    holding: names of the orders that hold some of it.
    """

    def __call__(self, *, waits: bool, holding: Sequence[str]) -> None:
        """Take the news."""


class Wait:
    """What is said of one wait. on_wait: may take long, so nothing that others need is held around it."""

    def __init__(self, on_wait: OnWait) -> None:
        self._on_wait = on_wait
        self._holding: Sequence[str] | None = None

    def until(
        self,
        took: Callable[[float], bool],
        holders: Callable[[], Sequence[str]],
        gone: Callable[[], bool],
        longest: float,
    ) -> bool:
        """Wait until it was taken, for at most `longest` seconds; tell whether it was. TimeoutError: whom it is for is gone.

        took: takes it as soon as it can within so many seconds, and tells whether it did. holders: names who has some meanwhile.
        """
        end, seconds = time.monotonic() + longest, 0.0
        while not took(seconds):
            if (left := end - time.monotonic()) <= 0:
                return False
            if gone():
                raise TimeoutError("the attempt is gone")
            if (holding := holders()) != self._holding:
                self._holding = holding
                self._on_wait(waits=True, holding=holding)
            seconds = min(left, LOOK_SECONDS)
        return True

    def over(self) -> None:
        """Say that it is over, unless there was none."""
        if self._holding is not None:
            self._on_wait(waits=False, holding=[])


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
    """total: bytes. Of those who wait, the owner who holds least is next; among equals the first, however much it asks for.

    So a large job is not kept waiting by small ones behind it, nor anybody by an owner who asks for more and more. What cannot
    wait is served before those who do, where it fits.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._held: Counter[str] = Counter()  # bytes by owner
        self._orders: Counter[str] = Counter()  # and by order
        self._waiting: dict[object, str] = {}  # owners, in the order of coming
        self._changed = threading.Condition()

    @property
    def counts(self) -> tuple[int, int, int]:
        """Say how many bytes are reserved, of how many, and how many wait. From any thread."""
        with self._changed:
            return self._held.total(), self._total, len(self._waiting)

    @property
    def holders(self) -> list[str]:
        """Name the orders that hold some. From any thread."""
        with self._changed:
            return [*self._orders]

    def reserve(
        self,
        size: int,
        gone: Callable[[], bool],
        *,
        owner: str = "",
        name: str = "",
        longest: float = inf,
        on_wait: OnWait = lambda *, waits, holding: None,
    ) -> None:
        """Take `size` bytes in the name of an order; waits until they are free, for at most `longest` seconds, unless it is gone.

        Raises SourceError where there will never be as many, NoRoomError where there are not in time, TimeoutError where it
        is gone.
        """
        if size > self._total:
            raise SourceError(
                f"this needs about {decimal(size)} of memory, and {decimal(self._total)} are there for jobs; "
                "choose a smaller scale or a smaller source"
            )
        place, wait = object(), Wait(on_wait)
        with self._changed:
            self._waiting[place] = owner
        took = partial(self._taken, size, place, name, any_turn=not longest)
        try:
            if not wait.until(took, lambda: self.holders, gone, longest):
                held = f"have held for {number(longest)} s" if longest else "hold now"
                raise NoRoomError(
                    f"this needs about {decimal(size)} of memory, which other jobs {held}; try again later"
                )
        finally:
            with self._changed:
                del self._waiting[place]
                self._changed.notify_all()
            wait.over()

    def _taken(self, size: int, place: object, name: str, seconds: float, *, any_turn: bool) -> bool:
        """Take bytes as soon as they are free and it is their turn, within so many seconds; tell whether they were."""
        with self._changed:
            fits = self._changed.wait_for(lambda: self._fits(size, place, first=any_turn), seconds)
            if fits:
                self._change(size, self._waiting[place], name)
            return fits

    def grant(self, size: int, most: int, *, owner: str = "", name: str = "") -> int:
        """Take up to `most` times `size` bytes beyond what was reserved, and return how often.

        Nobody is kept waiting for it: it takes no more than a quarter of all, and nothing while others wait.
        """
        with self._changed:
            room = 0 if self._waiting else min(self._total // SPARE_PART, self._total - self._held.total())
            count = max(0, min(most, room // size))
            self._change(count * size, owner, name)
            return count

    def release(self, size: int, *, owner: str = "", name: str = "") -> None:
        """Give bytes back."""
        with self._changed:
            self._change(-size, owner, name)
            self._changed.notify_all()

    def _change(self, size: int, owner: str, name: str) -> None:
        self._held[owner] += size
        self._orders[name] += size
        self._held += Counter()  # without those who hold nothing
        self._orders += Counter()

    def _fits(self, size: int, place: object, *, first: bool) -> bool:
        next_ = min(self._waiting, key=lambda place: self._held[self._waiting[place]])
        return (first or next_ is place) and self._held.total() + size <= self._total


class Claim:
    """What one attempt holds of a budget, and waits for. owner: whose it is. name: its order's.

    longest: seconds that it waits; None sets no bound. on_wait: called of its waits.
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
        self.held = 0  # bytes
        self._budget = budget
        self._whose = {"owner": owner, "name": name}
        self._longest = inf if longest is None else longest
        self._on_wait = on_wait
        self._since: float | None = None
        self._waited = 0.0

    @property
    def waited(self) -> float:
        """Give the seconds that it has waited. From any thread."""
        since = self._since
        return self._waited + (0.0 if since is None else time.monotonic() - since)

    def take_now(self, size: int) -> bool:
        """Take bytes if they are free, before all who wait for some; tell whether they were."""
        try:
            self._budget.reserve(size, lambda: False, **self._whose, longest=0.0, on_wait=self._on_wait)
        except NoRoomError:
            return False
        self.held += size
        return True

    def reserve(self, size: int, gone: Callable[[], bool]) -> None:
        """Take bytes as soon as they are free; raises what MemoryBudget.reserve does."""

        def take(longest: float) -> None:
            self._budget.reserve(size, gone, **self._whose, longest=longest, on_wait=self._on_wait)

        self.wait(take)
        self.held += size

    def wait(self, take: Callable[[float], None]) -> None:
        """Take something else that others have, and count the time. take: waits for it, for so many seconds at most."""
        self._since = since = time.monotonic()
        try:
            take(self._longest)
        finally:
            self._since, self._waited = None, self._waited + time.monotonic() - since

    def grant(self, size: int, most: int) -> int:
        """Take up to `most` times `size` bytes more, of what nobody waits for; return how often."""
        count = self._budget.grant(size, most, **self._whose)
        self.held += count * size
        return count

    def release(self) -> None:
        """Give all back."""
        self._budget.release(self.held, **self._whose)
        self.held = 0
