"""The store as asyncio sees it: changes are made in a thread, and the tasks that wait for a job are woken."""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any
from weakref import WeakValueDictionary

from upres.service.domain.states import State
from upres.service.storage.job_store import Job, Store

ANY = ""  # in place of a job: whichever it is


class Ledger:
    """store: for reading what needs no waiting; changes go through here. changing: how many are under way of each job."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.changing: Counter[str] = Counter()
        self._next: WeakValueDictionary[str, asyncio.Event] = WeakValueDictionary()  # as long as a task waits for it

    async def get(self, request_id: str, owner: str | None = None) -> Job:
        """Read a job; NotFoundError where there is none, or it is another owner's."""
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
        """Change a job as the store does, and wake those who wait for it."""
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
        """Give what is set when the next thing happens to a job, or ANY has an event. Ask before looking, to miss nothing."""
        return self._next.setdefault(request_id, asyncio.Event())

    def publish(self, request_id: str, *, event: bool = False) -> None:
        """Wake everybody who waits for something to happen to this job; with an event, who waits for those of ANY as well."""
        for name in (request_id, ANY) if event else (request_id,):
            if waited_for := self._next.pop(name, None):
                waited_for.set()
