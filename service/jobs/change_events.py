"""Asyncio interface to the job store: changes run in a thread, and wake the tasks that wait for a job."""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any
from weakref import WeakValueDictionary

from upres.service.domain.states import State
from upres.service.storage.job_store import Job, Store

ANY = ""  # in place of a request_id: any job


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
            job = await asyncio.to_thread(
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
