"""Asyncio interface to the job store: changes run in a thread, and wake the tasks that wait for a job."""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from upres.service.domain import states
from upres.service.domain.errors import StoreError
from upres.service.domain.states import State
from upres.service.storage.job_store import Job, Store

ANY = ""  # in place of a request_id: any job
RETRY_SECONDS = 1.0  # between two attempts to write to a database that rejects writes

T = TypeVar("T")

logger = logging.getLogger(__name__)


class Ledger:
    """Changes jobs and notifies waiting tasks. store: for reads without waiting. changing: number of running changes per job."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.changing: Counter[str] = Counter()
        self._next: WeakValueDictionary[str, asyncio.Event] = WeakValueDictionary()  # entries live while a task waits

    async def get(self, request_id: str, owner: str | None = None) -> Job:
        """Read a job. Raises NotFoundError if there is none, or if it has another owner."""
        return await asyncio.to_thread(self.store.get, request_id, owner)

    async def change(
        self,
        request_id: str,
        change: Callable[[State], State] = lambda state: state,
        *,
        totals: dict[str, Any] | None = None,
        accepted: bool | None = None,
        source_complete: bool | None = None,
        kept: dict[str, Any] | None = None,
    ) -> Job:
        """Change a job as `Store.change` does, and wake the tasks that wait for it."""
        self.changing[request_id] += 1
        try:
            job = await self.store.write(
                self.store.change,
                request_id,
                change,
                totals=totals,
                accepted=accepted,
                source_complete=source_complete,
                kept=kept,
            )
        finally:
            self.changing -= Counter([request_id])
        self.publish(request_id, event=True)
        return job

    async def change_until_stored(
        self, request_id: str, change: Callable[[State], State], totals: dict[str, Any] | None = None
    ) -> Job:
        """Change a job's row exactly once, retrying until the database accepts it."""
        return await retry_until_stored(partial(self.change, request_id, states.once(change), totals=totals))

    def next(self, request_id: str) -> asyncio.Event:
        """Return the event that is set at the next change of a job; of any job, for ANY.

        Call this before reading the job, so that no change is missed.
        """
        return self._next.setdefault(request_id, asyncio.Event())

    def publish(self, request_id: str, *, event: bool = False) -> None:
        """Wake the tasks that wait for this job; if an event was recorded, also those that wait for ANY."""
        for name in (request_id, ANY) if event else (request_id,):
            if change := self._next.pop(name, None):
                change.set()


async def retry_until_stored(write: Callable[[], Awaitable[T]]) -> T:
    """Call a function that changes a row until it raises no StoreError: a full disk or a database lock may be temporary."""
    while True:
        try:
            return await write()
        except StoreError:
            logger.exception("the database cannot be written; retrying")
            await asyncio.sleep(RETRY_SECONDS)
