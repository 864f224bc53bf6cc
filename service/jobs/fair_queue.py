"""Who is next: the key with the fewest attempts under way, then every key in turn. Live jobs do not wait: they have slots."""

import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Mapping

from upres.service.domain.errors import BusyError

RETRY_SECONDS = 10
PAUSE_SECONDS = 5.0  # before the second attempt at a job that was locked; then twice as long each time
LONGEST_PAUSE = 60.0
MOST_LOCKED = 30  # times in a row that a job is locked: half an hour or more
NONE: Mapping[str, int] = {}


class FairQueue:
    """Jobs that wait for an attempt, and places held by jobs whose source is still to come.

    most: how many may wait or hold a place, of which one owner gets half; a job that returns after an interruption always may.
    waited: how long the job had waited that was taken last, in seconds.
    """

    def __init__(self, most: int) -> None:
        self.waited = 0.0
        self._since: dict[str, float] = {}
        self._most = most
        self._each = (most + 1) // 2
        self._waiting: OrderedDict[str, deque[str]] = OrderedDict()
        self._places: dict[str, str] = {}  # owners

    def __len__(self) -> int:
        return sum(len(waiting) for waiting in self._waiting.values())

    @property
    def owners(self) -> list[str]:
        """List the owners of jobs that wait, in turn."""
        return list(self._waiting)

    @property
    def oldest(self) -> float:
        """Say how long the job has waited that has waited longest, in seconds; 0 where none waits."""
        return time.monotonic() - min(self._since.values()) if self._since else 0.0

    def reserve(self, request_id: str, owner: str, *, always: bool = False) -> None:
        """Hold a place for a job until it is put or removed; BusyError where there is none for its owner, unless always."""
        if not always:
            self._check(owner)
        self._places[request_id] = owner

    def _check(self, owner: str) -> None:
        again = f"try again in {RETRY_SECONDS} s"
        if len(self) + len(self._places) >= self._most:
            raise BusyError(f"{self._most} jobs are waiting already; {again}", RETRY_SECONDS)
        if len(self._waiting.get(owner, ())) + list(self._places.values()).count(owner) >= self._each:
            raise BusyError(
                f"{self._each} jobs of this key are waiting already, which is its share; {again}", RETRY_SECONDS
            )

    def release(self, request_id: str) -> None:
        """Give up a place."""
        self._places.pop(request_id, None)

    def put(self, request_id: str, owner: str, *, again: bool = False) -> None:
        """Add a job behind its owner's others; again: before them."""
        self._places.pop(request_id, None)
        self._since[request_id] = time.monotonic()
        waiting = self._waiting.setdefault(owner, deque())
        if again:
            waiting.appendleft(request_id)
        else:
            waiting.append(request_id)

    def take(self, running: Mapping[str, int] = NONE) -> str | None:
        """Take the next job, None where none waits; its owner comes last in turn now. running: attempts by owner."""
        if not self._waiting:
            return None
        owner = min(self._waiting, key=lambda owner: running.get(owner, 0))
        waiting = self._waiting[owner]
        request_id = waiting.popleft()
        now = time.monotonic()
        self.waited = now - self._since.pop(request_id, now)
        if waiting:
            self._waiting.move_to_end(owner)
        else:
            del self._waiting[owner]
        return request_id

    def remove(self, request_id: str) -> bool:
        """Take a job, and its place, out; report whether it was waiting."""
        self._places.pop(request_id, None)
        for owner, waiting in self._waiting.items():
            if request_id in waiting:
                waiting.remove(request_id)
                self._since.pop(request_id, None)
                if not waiting:
                    del self._waiting[owner]
                return True
        return False


class Later:
    """Jobs that are queued again in a while, since the attempt at each found that another one has its folder."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._times: Counter[str] = Counter()
        self._waiting: dict[str, tuple[float, str]] = {}  # until when, and whose they are

    def put(self, request_id: str, owner: str) -> float | None:
        """Take a job; return the seconds that it waits, None where it was locked too often in a row to be taken."""
        self._times[request_id] += 1
        if self._times[request_id] > MOST_LOCKED:
            return None
        seconds = min(LONGEST_PAUSE, PAUSE_SECONDS * 2.0 ** (self._times[request_id] - 1))
        self._waiting[request_id] = self._clock() + seconds, owner
        return seconds

    def due(self) -> list[tuple[str, str]]:
        """Take out the jobs that have waited long enough, each with its owner."""
        now = self._clock()
        due = [(request_id, owner) for request_id, (until, owner) in self._waiting.items() if until <= now]
        for request_id, _ in due:
            del self._waiting[request_id]
        return due

    def forget(self, request_id: str) -> None:
        """Forget a job, and how often it was locked."""
        self._waiting.pop(request_id, None)
        self._times.pop(request_id, None)


def owner_to_yield(waiting: list[str], running: Counter[str]) -> str | None:
    """Choose whose attempt gives its slot to somebody who waits: one who would still have no fewer; None for nobody."""
    if not waiting or not running:
        return None
    richest, most = running.most_common(1)[0]
    return richest if min(running[owner] for owner in waiting) + 1 < most else None
