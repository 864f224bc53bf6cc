"""Look-ups of jobs' servers: concurrent look-ups are combined into one database query at a time."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping

from upres.service.domain.errors import UnavailableError
from upres.service.storage.lease import Holder
from upres.service.storage.ownership import OWNER_UNAVAILABLE

Holders = Mapping[str, Holder | None]


class LookUps:
    """Combined look-ups, so that even requests without a key are cheap: each costs one row of the next query.

    find: returns, by job, the other server that handles it; omits jobs of this server; None while another server takes it over.
    """

    def __init__(self, find: Callable[[Collection[str]], Awaitable[Holders]]) -> None:
        self._find = find
        self._one = asyncio.Lock()
        self._next: tuple[set[str], asyncio.Task[Holders]] | None = None

    async def __call__(self, request_id: str) -> Holder | None:
        """Return the other server that has a job; None if this one handles it. Raises UnavailableError, StoreError."""
        if self._next is None:
            request_ids: set[str] = set()
            self._next = request_ids, asyncio.create_task(self._query(request_ids))
            # Retrieve the exception, which asyncio would log if all callers were cancelled.
            self._next[1].add_done_callback(lambda task: task.cancelled() or task.exception())
        request_ids, looking = self._next
        request_ids.add(request_id)
        holders = await asyncio.shield(looking)
        holder = holders.get(request_id)
        if holder is None and request_id in holders:
            raise UnavailableError(OWNER_UNAVAILABLE)
        return holder

    async def _query(self, request_ids: Collection[str]) -> Holders:
        async with self._one:
            self._next = None  # later callers join the next query
            return await self._find(request_ids)
