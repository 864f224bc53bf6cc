"""Which of several servers works on a job that has not ended: the one that took it, and another one once that is gone."""

from collections.abc import Collection
from dataclasses import dataclass

import sqlalchemy as sa

from .database import Database
from .lease import Holder, end
from .schema import jobs, leases, unfinished

GONE = "the server that has this job has gone; another one takes it over within seconds, try again then"

_orphaned = sa.and_(unfinished, ~sa.exists().where(leases.c.name == jobs.c.server))
_shared = sa.and_(jobs.c.queued.is_not(None), jobs.c.source_complete)  # any server may take it


@dataclass(frozen=True, slots=True)
class OwnedJob:
    """A job as the server sees it that has it. queued: it waits where any server may find it."""

    request_id: str
    accepted: bool
    queued: bool


class Ownership:
    """Of the jobs of one database, as one server sees it. Every call is short."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def peer_owners(self, request_ids: Collection[str]) -> dict[str, Holder | None]:
        """Give the other servers that have jobs, by job; no job that this one has, that has ended, or that there is not.

        None: that server has gone, and its jobs were not taken over yet.
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
        """List the jobs of this server that have not ended."""
        server = self._database.server
        ours = unfinished if server is None else sa.and_(unfinished, jobs.c.server == server)
        columns = jobs.c.request_id, jobs.c.accepted, jobs.c.queued.is_not(None)
        with self._database.snapshot() as connection:
            return [OwnedJob(*row) for row in connection.execute(sa.select(*columns).where(ours))]

    def has_orphans(self) -> bool:
        """Report whether there are jobs of servers that have gone."""
        with self._database.snapshot() as connection:
            return connection.scalar(sa.select(jobs.c.number).where(_orphaned).limit(1)) is not None

    def take_over(self, late: Collection[str]) -> set[str]:
        """Take the jobs of servers that are late, which write nothing from then on, and of those that have gone.

        Gives the ids of those to resume. What waits with its whole source is none: it is left in the queue, and any server, this
        one too, may have taken it a moment later. What waits for the rest of its source does so no longer, and is one.
        """
        with self._database.transaction() as connection:
            end(connection, late)
            taken = set(connection.scalars(sa.select(jobs.c.request_id).where(_orphaned, ~_shared)))
            queued = sa.case((jobs.c.source_complete, jobs.c.queued))
            connection.execute(jobs.update().where(_orphaned).values(server=self._database.server, queued=queued))
        return taken
