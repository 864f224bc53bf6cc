"""The store as asyncio sees it: changes made in a thread, and whoever waits for a job told of them."""

import asyncio
from collections.abc import Callable
from typing import Any
from weakref import WeakValueDictionary

from upres.service.domain.states import State
from upres.service.storage.job_store import Job, Store

ANY = ""  # in place of a job: whichever it is


class Ledger:
    """store: for reading what needs no waiting; changes go through here."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._next: WeakValueDictionary[str, asyncio.Event] = WeakValueDictionary()  # as long as somebody waits

    async def get(self, request_id: str, owner: str | None = None) -> Job:
        """A job; NotFoundError where there is none, or it is another owner's."""
        return await asyncio.to_thread(self.store.get, request_id, owner)

    async def change(
        self,
        request_id: str,
        change: Callable[[State], State] = lambda state: state,
        *,
        totals: dict[str, Any] | None = None,
        accepted: bool | None = None,
        source_complete: bool | None = None,
    ) -> Job:
        """As the store's, and told to whoever waits."""
        job = await asyncio.to_thread(
            self.store.change, request_id, change, totals=totals, accepted=accepted, source_complete=source_complete
        )
        self.tell(request_id)
        return job

    def next(self, request_id: str) -> asyncio.Event:
        """What is set when the next thing happens to a job, or to ANY; to be asked for before looking, to miss nothing."""
        return self._next.setdefault(request_id, asyncio.Event())

    def tell(self, request_id: str) -> None:
        """Something happened to a job."""
        for who in (request_id, ANY):
            if event := self._next.pop(who, None):
                event.set()
