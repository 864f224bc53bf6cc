"""Rate limits over all servers of a database: each says there what it has counted, and hears what the others have.

So a key may make more requests than its limit by those that the others take between two exchanges.
"""

import asyncio
import logging
from collections.abc import Collection
from dataclasses import asdict

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from upres.service.domain.errors import StoreError
from upres.service.storage.job_store import Store
from upres.service.storage.schema import requests as table

from .rate_limit import Counted, Quota

SECONDS = 2.0

logger = logging.getLogger(__name__)


class SharedQuota:
    """One server's part. quota: what it counts by."""

    def __init__(self, quota: Quota, store: Store) -> None:
        self._quota = quota
        self._store = store

    async def run(self) -> None:
        """Exchange, for as long as this task lives. While the database is away each server counts by itself."""
        while True:
            try:
                await self.exchange()
            except StoreError as error:
                logger.warning("requests are counted by this server alone for now: %s", error)
            await asyncio.sleep(SECONDS)

    async def exchange(self) -> None:
        """Say what was counted since the last time, and hear what others have counted. Raises StoreError."""
        own, numbers = self._quota.unsaid(), self._quota.numbers()
        others = await asyncio.to_thread(self._exchanged, own, numbers)
        self._quota.hear(own, others)

    def _exchanged(self, own: Collection[Counted], numbers: dict[str, int]) -> list[Counted]:
        if own:
            self._say(own, numbers)
        now = sa.or_(*(sa.and_(table.c.kind == kind, table.c.number == number) for kind, number in numbers.items()))
        query = (
            sa.select(table.c.owner, table.c.kind, table.c.number, sa.func.sum(table.c.count))
            .where(table.c.server != self._store.server, now)
            .group_by(table.c.owner, table.c.kind, table.c.number)
        )
        with self._store.snapshot() as connection:
            return [
                Counted(owner, kind, number, int(count)) for owner, kind, number, count in connection.execute(query)
            ]

    def _say(self, own: Collection[Counted], numbers: dict[str, int]) -> None:
        """Write what this server has counted; what is of windows that have passed is no longer of use to anybody.

        Servers do not wait for each other: each writes rows of its own, and removes those that nobody else is removing.
        """
        past = sa.or_(*(sa.and_(table.c.kind == kind, table.c.number < number - 1) for kind, number in numbers.items()))
        which = table.c.owner, table.c.kind, table.c.server
        free = sa.select(*which).where(past).with_for_update(skip_locked=True)
        rows = [{**asdict(each), "server": self._store.server} for each in own]
        upsert = insert(table).values(rows)
        counted = {name: upsert.excluded[name] for name in ("number", "count")}
        with self._store.unserialized() as connection:
            connection.execute(table.delete().where(sa.tuple_(*which).in_(free)))
        with self._store.unserialized() as connection:
            connection.execute(upsert.on_conflict_do_update(index_elements=which, set_=counted))
