"""Ownership of unfinished jobs among several servers: a job belongs to the server that took it, until that server is gone."""

from collections.abc import Collection
from dataclasses import dataclass

import sqlalchemy as sa

from .database import Database
from .lease import Holder, expire
from .schema import jobs, leases, unfinished

OWNER_UNAVAILABLE = "the server that owns this job is gone; another one takes it over within seconds, try again then"

_orphaned = sa.and_(unfinished, ~sa.exists().where(leases.c.name == jobs.c.server))
_shared = sa.and_(jobs.c.queued.is_not(None), jobs.c.source_complete)  # any server may take it


@dataclass(frozen=True, slots=True)
class OwnedJob:
    """An unfinished job of this server. queued: it waits in the shared queue."""

    request_id: str
    accepted: bool
    queued: bool


class Ownership:
    """Ownership of one database's jobs, as seen by one server. Every call is short."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def peer_owners(self, request_ids: Collection[str]) -> dict[str, Holder | None]:
        """Map each unfinished job that another server owns to that server; other jobs are left out.

        None: that server is gone, and its jobs have not been taken over yet.
        """
        query = (
            sa.select(jobs.c.request_id, leases.c.name, leases.c.server, leases.c.http, leases.c.grpc)
            .join(leases, leases.c.name == jobs.c.server, isouter=True)
            .where(
                jobs.c.request_id.in_(request_ids), unfinished, jobs.c.server.is_distinct_from(self._database.server)
            )
        )
        with self._database.snapshot() as connection:
            rows = connection.execute(query).all()
        return {row.request_id: None if row.name is None else Holder(*row[1:]) for row in rows}

    def own(self) -> list[OwnedJob]:
        """List the unfinished jobs of this server."""
        server = self._database.server
        owned = unfinished if server is None else sa.and_(unfinished, jobs.c.server == server)
        columns = jobs.c.request_id, jobs.c.accepted, jobs.c.queued.is_not(None)
        with self._database.snapshot() as connection:
            return [OwnedJob(*row) for row in connection.execute(sa.select(*columns).where(owned))]

    def has_orphans(self) -> bool:
        """Report whether there are jobs of servers that are gone."""
        with self._database.snapshot() as connection:
            return connection.scalar(sa.select(jobs.c.number).where(_orphaned).limit(1)) is not None

    def take_over(self, late: Collection[str]) -> set[str]:
        """Take over the jobs of servers that are gone, and of late ones, which cannot write any more. Return those to resume.

        Jobs in the shared queue with a complete source need no resuming: they stay queued, and any server, including this one, may
        take them. Queued jobs whose source is incomplete are removed from the queue and returned.
        """
        with self._database.transaction() as connection:
            expire(connection, late)
            orphans = set(connection.scalars(sa.select(jobs.c.request_id).where(_orphaned, ~_shared)))
            queued = sa.case((jobs.c.source_complete, jobs.c.queued))
            connection.execute(jobs.update().where(_orphaned).values(server=self._database.server, queued=queued))
        return orphans
