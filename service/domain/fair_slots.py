"""A semaphore that is fair between owners: no owner holds every slot, and none fills the queue for the others."""

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from .errors import BusyError

RETRY_SECONDS = 5
MOST_WAITING = 256
MOST_WAITING_EACH = 32


class FairSlots:
    """Slots shared by owners in turn. count: number of slots, of which one owner gets all but one.

    waiters: what waits for the slots, for the message of BusyError.
    """

    def __init__(self, count: int, *, waiters: str) -> None:
        self._count = count
        self._waiters = waiters
        self._each = max(1, count - 1)
        self._running: Counter[str] = Counter()
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    @asynccontextmanager
    async def slot(self, owner: str) -> AsyncIterator[None]:
        """Hold a slot, waiting behind the owners that have waited longer. Raises BusyError if too many wait."""
        self._check(owner)
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(owner, deque()).append(place)
        self._admit()
        try:
            await place
            yield
        finally:
            self._leave(owner, place)

    def _check(self, owner: str) -> None:
        own, others = len(self._waiting.get(owner, ())), sum(map(len, self._waiting.values()))
        if own >= MOST_WAITING_EACH or others >= MOST_WAITING:
            raise BusyError(f"too many {self._waiters}; try again in {RETRY_SECONDS} s", RETRY_SECONDS)

    def _admit(self) -> None:
        """Assign free slots, each to the first waiter of the owner that has waited longest."""
        while self._running.total() < self._count:
            owner = next((owner for owner in self._waiting if self._running[owner] < self._each), None)
            if owner is None:
                return
            place = self._take(owner)
            if not place.done():  # otherwise the wait was cancelled, and its task has not resumed yet
                place.set_result(None)
                self._running[owner] += 1

    def _take(self, owner: str) -> asyncio.Future[None]:
        """Remove an owner's first waiter; move the owner to the end of the turn order, unless that wait was cancelled."""
        places = self._waiting[owner]
        place = places.popleft()
        if not places:
            del self._waiting[owner]
        elif not place.done():
            self._waiting.move_to_end(owner)
        return place

    def _leave(self, owner: str, place: asyncio.Future[None]) -> None:
        """Release a slot, or leave the queue if the wait was cancelled."""
        if place.done() and not place.cancelled():
            self._running[owner] -= 1
            if not self._running[owner]:
                del self._running[owner]
            self._admit()
        elif place in (places := self._waiting.get(owner, deque())):
            places.remove(place)
            if not places:
                del self._waiting[owner]
