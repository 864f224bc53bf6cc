"""Rate limits over all servers of a database: each server publishes its counts there, and reads those of the others.

A key may exceed its limit by the requests that other servers accept between two exchanges.
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
    """Exchange of one server's counts with those of the others. quota: this server's rate limiter."""

    def __init__(self, quota: Quota, store: Store) -> None:
        self._quota = quota
        self._store = store

    async def run(self) -> None:
        """Exchange counts periodically; runs until cancelled. While the database is unavailable, each server counts alone."""
        while True:
            try:
                await self.exchange()
            except StoreError as error:
                logger.warning("rate limits are not shared with other servers now: %s", error)
            await asyncio.sleep(SECONDS)

    async def exchange(self) -> None:
        """Publish the counts since the last exchange, and read those of the other servers. Raises StoreError."""
        own, numbers = self._quota.unpublished(), self._quota.numbers()
        others = await asyncio.to_thread(self._exchange_rows, own, numbers)
        self._quota.merge(own, others)

    def _exchange_rows(self, own: Collection[Counted], numbers: dict[str, int]) -> list[Counted]:
        if own:
            self._publish(own, numbers)
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

    def _publish(self, own: Collection[Counted], numbers: dict[str, int]) -> None:
        """Write this server's counts, and delete those of past windows.

        Servers do not block each other: each writes its own rows, and skips rows that another one is deleting.
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
