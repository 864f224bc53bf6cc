"""Where jobs are, for all who ask at a time: the database is asked one question after the other, and each has many answers."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping

from upres.service.domain.errors import UnavailableError
from upres.service.storage.lease import Holder
from upres.service.storage.ownership import GONE

Holders = Mapping[str, Holder | None]


class LookUps:
    """So anybody may ask, also who has no key: it costs a row of the next question.

    find: gives the servers that jobs have to be asked for at, by job, and nothing of those that this server answers for; None where
    another one takes the job over just now.
    """

    def __init__(self, find: Callable[[Collection[str]], Awaitable[Holders]]) -> None:
        self._find = find
        self._one = asyncio.Lock()
        self._next: tuple[set[str], asyncio.Task[Holders]] | None = None

    async def __call__(self, request_id: str) -> Holder | None:
        """Give the other server that has a job; None where this one answers for it. Raises UnavailableError, StoreError."""
        if self._next is None:
            asked: set[str] = set()
            self._next = asked, asyncio.create_task(self._look(asked))
            self._next[1].add_done_callback(
                lambda task: task.cancelled() or task.exception()
            )  # all who asked may have gone
        asked, looking = self._next
        asked.add(request_id)
        found = await asyncio.shield(looking)
        holder = found.get(request_id)
        if holder is None and request_id in found:
            raise UnavailableError(GONE)
        return holder

    async def _look(self, asked: Collection[str]) -> Holders:
        async with self._one:
            self._next = None  # who asks from now on is answered by the next one
            return await self._find(asked)
