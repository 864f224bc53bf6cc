"""Who is next: the key with the fewest attempts under way, then every key in turn. Live jobs do not wait: they have slots."""

import asyncio
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Collection, Mapping
from typing import Any

from upres.service.domain.errors import BusyError
from upres.service.storage.waiting import Claim, Waiting, by_owner

RETRY_SECONDS = 10
PAUSE_SECONDS = 5.0  # before the second attempt at a job that was locked; then twice as long each time
LONGEST_PAUSE = 60.0
MOST_LOCKED = 30  # times in a row that a job is locked, or its source lost: half an hour or more
MOST_AWAY = 1440  # times that what it needs can be had once a store, or a disk, is mended: a day, as results wait for their store
ELSEWHERE_SECONDS = 1.0  # after which a job that waits is not taken by a server that has room
TURN_SECONDS = 5.0  # after which the next full server ends an attempt for what waits still
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

    @property
    def waiting(self) -> Collection[str]:
        """The jobs that wait."""
        return self._since.keys()

    @property
    def places(self) -> Collection[str]:
        """The jobs that hold a place."""
        return self._places.keys()

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
            waiting = Counter({owner: len(jobs) for owner, jobs in self._waiting.items()})
            self.check(owner, waiting + Counter(self._places.values()))
        self._places[request_id] = owner

    def check(self, owner: str, held: Mapping[str, int]) -> None:
        """Raise BusyError where an owner has no place. held: how many jobs of each owner wait, or hold a place."""
        again = f"try again in {RETRY_SECONDS} s"
        if sum(held.values()) >= self._most:
            raise BusyError(f"{self._most} jobs are waiting already; {again}", RETRY_SECONDS)
        if held.get(owner, 0) >= self._each:
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


class Line:
    """Whose turn it is: by `queue`, or over all servers that share a database, where what is put into it waits in that.

    can_run: whether a job can be attempted here, by its spec.
    """

    def __init__(self, queue: FairQueue, waiting: Waiting | None, can_run: Callable[[dict[str, Any]], bool]) -> None:
        self._queue = queue
        self._waiting = waiting
        self._can_run = can_run
        self._moving: list[str] = []  # on their way into the database
        self._givers = Givers()

    @property
    def waiting(self) -> set[str]:
        """The jobs that wait here, and are in no queue of all servers yet."""
        return {*self._queue.waiting, *self._moving}

    async def share(self) -> None:
        """Let any server take what was put into the queue here. Raises StoreError; then the next call does."""
        if self._waiting is None:
            return
        while (request_id := self._queue.take()) is not None:
            self._moving.append(request_id)
        if self._moving:
            await asyncio.to_thread(self._waiting.put, self._moving)
            self._moving.clear()

    async def take(self, running: Mapping[str, int]) -> str | None:
        """Take the next job, None where none waits. running: attempts here, by owner. Raises StoreError."""
        if self._waiting is None:
            return self._queue.take(running)
        taken = await asyncio.to_thread(self._waiting.take, self._can_run)
        if taken is None:
            return None
        self._queue.waited = taken.waited
        return taken.request_id

    async def claim(self, running: Counter[str]) -> tuple[bool, str | None]:
        """Report whether a job waits for a slot here, and whose attempt gives it one, if anybody's. running: those here, by owner.

        It is none that another server with room has taken at once. Raises StoreError.
        """
        if self._waiting is None:
            return len(self._queue) > 0, owner_to_yield(self._queue.owners, running)
        claim = await asyncio.to_thread(self._waiting.claim, self._can_run, ELSEWHERE_SECONDS)
        return claim is not None, self._givers.giver(claim, running)


class Givers:
    """Which of several full servers ends an attempt for a job that waits: one where the key that has most has most of its attempts.

    Every server finds the same order of them from the rows, without a word between them. The first does it once a claim stands
    unchanged for ELSEWHERE_SECONDS: what another one has just ended makes way meanwhile. Each other one does it only where a claim
    stands for so long that those before it cannot take the job, or do not answer.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._stands: tuple[str, str, int] | None = None  # whose claim, to whose slot, and how many those have
        self._since = 0.0

    def giver(self, claim: Claim | None, here: Collection[str]) -> str | None:
        """Choose whose attempt ends now; None for nobody's. here: the owners of those that can be ended at this server."""
        found = None if claim is None else _place(claim, here)
        if claim is None or found is None:
            self._stands = None
            return None
        place, owner = found
        stands = claim.owner, owner, by_owner(claim.running)[owner]
        if stands != self._stands:
            self._stands, self._since = stands, self._clock()
        if self._clock() - self._since < ELSEWHERE_SECONDS + place * TURN_SECONDS:
            return None
        self._stands = None
        return owner


def _place(claim: Claim, here: Collection[str]) -> tuple[int, str] | None:
    """Find which in turn this server is to end an attempt for a claim, and whose; None where it has none that is too many."""
    total = by_owner(claim.running)
    order = sorted(claim.running, key=lambda pair: (-total[pair[0]], pair[0], -claim.running[pair], pair[1]))
    servers = list(dict.fromkeys(server for _, server in order))
    owner = next((owner for owner, server in order if server == claim.server and owner in here), None)
    if owner is None or total[claim.owner] + 1 >= total[owner]:
        return None
    return servers.index(claim.server), owner


class Later:
    """Jobs that are queued again in a while, since the attempt at each found that another one has its folder, or has no files."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._times: Counter[str] = Counter()
        self._away: Counter[str] = Counter()  # of those
        self._waiting: dict[str, tuple[float, str]] = {}  # until when, and whose they are

    def put(self, request_id: str, owner: str, *, away: bool = False) -> float | None:
        """Take a job; return the seconds that it waits, None where it was put too often in a row to be taken.

        away: it waits for what says nothing about the job, a store that does not answer or a disk that is full.
        """
        self._times[request_id] += 1
        self._away[request_id] += away
        if self._times[request_id] - self._away[request_id] > MOST_LOCKED or self._away[request_id] > MOST_AWAY:
            return None
        seconds = min(LONGEST_PAUSE, PAUSE_SECONDS * 2.0 ** min(self._times[request_id] - 1, 10))
        self._waiting[request_id] = self._clock() + seconds, owner
        return seconds

    @property
    def waiting(self) -> Collection[str]:
        """The jobs that wait."""
        return self._waiting.keys()

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
        self._away.pop(request_id, None)
        self._times.pop(request_id, None)


def owner_to_yield(waiting: list[str], running: Counter[str]) -> str | None:
    """Choose whose attempt gives its slot to somebody who waits: one who would still have no fewer; None for nobody."""
    if not waiting or not running:
        return None
    richest, most = running.most_common(1)[0]
    return richest if min(running[owner] for owner in waiting) + 1 < most else None
