"""Fair queueing of jobs: the owner (API key) with the fewest running attempts is next, ties in turn. Live jobs never queue."""

import asyncio
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Collection, Mapping
from typing import Any

from upres.service.domain.errors import BusyError
from upres.service.storage.shared_queue import Claim, SharedQueue, by_owner

RETRY_SECONDS = 10
PAUSE_SECONDS = 5.0  # before the first retry of a locked job; doubled for each further retry
LONGEST_PAUSE = 60.0
MAX_LOCKED_RETRIES = 30  # consecutive retries of a job that is locked or whose source is lost: half an hour or more
MAX_OUTAGE_RETRIES = (
    1440  # during an outage of an object store or a disk: a day, as long as results wait for their store
)
PICKUP_SECONDS = 1.0  # a job that has waited longer was not taken by a server with a free slot, so none has one
TURN_SECONDS = 5.0  # after which the next full server stops an attempt for a job that still waits
NONE_RUNNING: Mapping[str, int] = {}


class FairQueue:
    """Queue of jobs that wait for an attempt, and reservations for jobs whose source is still being uploaded.

    most: maximum number of waiting jobs and reservations, of which one owner gets half; requeued jobs are always accepted.
    waited: how long the job that was taken last had waited, in seconds.
    """

    def __init__(self, most: int) -> None:
        self.waited = 0.0
        self._since: dict[str, float] = {}
        self._most = most
        self._each = (most + 1) // 2
        self._waiting: OrderedDict[str, deque[str]] = OrderedDict()
        self._reservations: dict[str, str] = {}  # job → owner

    @property
    def waiting(self) -> Collection[str]:
        """The waiting jobs."""
        return self._since.keys()

    @property
    def reservations(self) -> Collection[str]:
        """The jobs that hold a reservation."""
        return self._reservations.keys()

    def __len__(self) -> int:
        return sum(len(waiting) for waiting in self._waiting.values())

    @property
    def owners(self) -> list[str]:
        """List the owners of waiting jobs in turn order."""
        return list(self._waiting)

    @property
    def oldest(self) -> float:
        """Return the longest time that a job has waited, in seconds; 0 if none waits."""
        return time.monotonic() - min(self._since.values()) if self._since else 0.0

    def reserve(self, request_id: str, owner: str, *, always: bool = False) -> None:
        """Reserve a place for a job until it is queued or removed. Unless always, raises BusyError if its owner has none left."""
        if not always:
            waiting = Counter({owner: len(jobs) for owner, jobs in self._waiting.items()})
            self.check(owner, waiting + Counter(self._reservations.values()))
        self._reservations[request_id] = owner

    def check(self, owner: str, places: Mapping[str, int]) -> None:
        """Raise BusyError if an owner has no place left. places: number of waiting jobs and reservations of each owner."""
        again = f"try again in {RETRY_SECONDS} s"
        if sum(places.values()) >= self._most:
            raise BusyError(f"{self._most} jobs are waiting already; {again}", RETRY_SECONDS)
        if places.get(owner, 0) >= self._each:
            raise BusyError(
                f"{self._each} jobs of this key are waiting already, which is its share; {again}", RETRY_SECONDS
            )

    def release(self, request_id: str) -> None:
        """Release a reservation."""
        self._reservations.pop(request_id, None)

    def put(self, request_id: str, owner: str, *, again: bool = False) -> None:
        """Queue a job after its owner's other jobs; again: before them."""
        self._reservations.pop(request_id, None)
        self._since[request_id] = time.monotonic()
        waiting = self._waiting.setdefault(owner, deque())
        if again:
            waiting.appendleft(request_id)
        else:
            waiting.append(request_id)

    def take(self, running: Mapping[str, int] = NONE_RUNNING) -> str | None:
        """Remove and return the next job, and move its owner to the end of the turn order; None if no job waits.

        running: attempts by owner.
        """
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
        """Remove a job or its reservation; report whether it was waiting."""
        self._reservations.pop(request_id, None)
        for owner, waiting in self._waiting.items():
            if request_id in waiting:
                waiting.remove(request_id)
                self._since.pop(request_id, None)
                if not waiting:
                    del self._waiting[owner]
                return True
        return False


class DispatchQueue:
    """Queue that jobs are dispatched from: the local `queue`, or the queue in the database that all servers share.

    With a shared queue, jobs put into the local one are moved into it. can_run: whether this server can run a job, by its spec.
    """

    def __init__(self, queue: FairQueue, shared: SharedQueue | None, can_run: Callable[[dict[str, Any]], bool]) -> None:
        self._queue = queue
        self._shared = shared
        self._can_run = can_run
        self._moving: list[str] = []  # being moved into the shared queue
        self._preemption = Preemption()

    @property
    def waiting(self) -> set[str]:
        """The jobs that wait on this server and are not in the shared queue yet."""
        return {*self._queue.waiting, *self._moving}

    async def share(self) -> None:
        """Move the jobs of the local queue into the shared one. Raises StoreError; then the next call moves them."""
        if self._shared is None:
            return
        while (request_id := self._queue.take()) is not None:
            self._moving.append(request_id)
        if self._moving:
            await self._shared.write(self._shared.put, self._moving)
            self._moving.clear()

    async def take(self, running: Mapping[str, int]) -> str | None:
        """Remove and return the next job; None if none waits. running: attempts on this server, by owner. Raises StoreError."""
        if self._shared is None:
            return self._queue.take(running)
        dequeued = await self._shared.write(self._shared.take, self._can_run)
        if dequeued is None:
            return None
        self._queue.waited = dequeued.waited
        return dequeued.request_id

    async def claim(self, running: Counter[str]) -> tuple[bool, str | None]:
        """Return whether a job waits for a slot of this server, and the owner whose attempt should yield one, if any.

        A job in the shared queue counts after PICKUP_SECONDS: before, a server with a free slot may still take it.
        running: attempts on this server, by owner. Raises StoreError.
        """
        if self._shared is None:
            return len(self._queue) > 0, owner_to_yield(self._queue.owners, running)
        claim = await asyncio.to_thread(self._shared.claim, self._can_run, PICKUP_SECONDS)
        return claim is not None, self._preemption.victim(claim, running)


class Preemption:
    """Decides which of several full servers stops an attempt for a waiting job, and whose.

    The server where the owner with the most attempts has most of them goes first. Every server computes the same order from the
    database, without communication. The first one acts once the claim has been unchanged for PICKUP_SECONDS, since an attempt
    that was stopped just before may already free a slot. Each further server acts TURN_SECONDS after the one before it, in case
    that one cannot take the job or does not respond.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._claim: tuple[str, str, int] | None = (
            None  # claiming owner, owner to yield, number of the latter's attempts
        )
        self._since = 0.0  # when this claim was first seen

    def victim(self, claim: Claim | None, here: Collection[str]) -> str | None:
        """Return the owner whose attempt this server must stop now, if any. here: owners with attempts that it can stop."""
        turn = None if claim is None else _turn(claim, here)
        if claim is None or turn is None:
            self._claim = None
            return None
        position, owner = turn
        current = claim.owner, owner, by_owner(claim.running)[owner]
        if current != self._claim:
            self._claim, self._since = current, self._clock()
        if self._clock() - self._since < PICKUP_SECONDS + position * TURN_SECONDS:
            return None
        self._claim = None
        return owner


def _turn(claim: Claim, here: Collection[str]) -> tuple[int, str] | None:
    """Return this server's position in the order of servers that stop an attempt for a claim, and the owner of that attempt.

    None if no owner with an attempt on this server has more than a fair share.
    """
    total = by_owner(claim.running)
    order = sorted(claim.running, key=lambda pair: (-total[pair[0]], pair[0], -claim.running[pair], pair[1]))
    servers = list(dict.fromkeys(server for _, server in order))
    owner = next((owner for owner, server in order if server == claim.server and owner in here), None)
    if owner is None or total[claim.owner] + 1 >= total[owner]:
        return None
    return servers.index(claim.server), owner


class RetryDelays:
    """Jobs that are queued again after a delay with exponential back-off, as their folder was locked or their files unavailable."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._retries: Counter[str] = Counter()
        self._outages: Counter[str] = Counter()  # retries that were caused by an outage
        self._waiting: dict[str, tuple[float, str]] = {}  # job → when it is due, and its owner

    def put(self, request_id: str, owner: str, *, outage: bool = False) -> float | None:
        """Delay a job; return the delay in seconds, or None if it was retried too often in a row.

        outage: the cause is an outage and not the job, such as an object store that does not respond or a full disk.
        """
        self._retries[request_id] += 1
        self._outages[request_id] += outage
        if (
            self._retries[request_id] - self._outages[request_id] > MAX_LOCKED_RETRIES
            or self._outages[request_id] > MAX_OUTAGE_RETRIES
        ):
            return None
        seconds = min(LONGEST_PAUSE, PAUSE_SECONDS * 2.0 ** min(self._retries[request_id] - 1, 10))
        self._waiting[request_id] = self._clock() + seconds, owner
        return seconds

    @property
    def waiting(self) -> Collection[str]:
        """The waiting jobs."""
        return self._waiting.keys()

    def due(self) -> list[tuple[str, str]]:
        """Remove and return the jobs whose delay is over, each with its owner."""
        now = self._clock()
        due = [(request_id, owner) for request_id, (due_at, owner) in self._waiting.items() if due_at <= now]
        for request_id, _ in due:
            del self._waiting[request_id]
        return due

    def forget(self, request_id: str) -> None:
        """Remove a job, and reset its retries."""
        self._waiting.pop(request_id, None)
        self._outages.pop(request_id, None)
        self._retries.pop(request_id, None)


def owner_to_yield(waiting: list[str], running: Counter[str]) -> str | None:
    """Choose the owner whose attempt yields its slot to a waiting owner: the one with the most attempts.

    None if it would then have fewer attempts than the waiting owner. running: attempts by owner.
    """
    if not waiting or not running:
        return None
    owner, most = running.most_common(1)[0]
    return owner if min(running[each] for each in waiting) + 1 < most else None
