"""Queue of waiting jobs in the database, shared by several servers. Its order is that of `fair_queue`, over all servers.

Write transactions are serialized, so no two servers take the same job, and each counts what the others have taken.
"""

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from upres.service.domain.states import Status

from .database import Database
from .dialects import notify
from .schema import jobs, keys, leases, unfinished

MAX_EXAMINED = 32  # jobs of an owner that a server examines to find the first one that it can run

_is_queued = jobs.c.queued.is_not(None)


@dataclass(frozen=True, slots=True)
class DequeuedJob:
    """A job that this server has taken from the queue. waited: how long the job had waited, in seconds."""

    request_id: str
    waited: float


@dataclass(frozen=True, slots=True)
class QueueStats:
    """Number of waiting jobs and of their API keys. oldest: longest time that a job has waited, in seconds."""

    jobs: int
    keys: int
    oldest: float


@dataclass(frozen=True, slots=True)
class Claim:
    """The next owner to get a slot of a full server. running: number of running attempts by owner and server, over all servers."""

    owner: str
    server: str
    running: Counter[tuple[str, str]]


class SharedQueue:
    """Shared queue of one database, as seen by one server. Methods are short, blocking transactions. clock: Unix seconds."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock
        self.write = database.write

    @property
    def _can_take(self) -> sa.ColumnElement[bool]:
        """Condition for the queued jobs that this server can take: those with a complete source, and its own."""
        return sa.and_(_is_queued, sa.or_(jobs.c.source_complete, jobs.c.server == self._database.server))

    def put(self, request_ids: Collection[str]) -> None:
        """Queue jobs of this server, so that any server that can run them may take them."""
        own = sa.and_(jobs.c.request_id.in_(request_ids), jobs.c.server == self._database.server, unfinished)
        with self._database.transaction() as connection:
            connection.execute(jobs.update().where(own, ~_is_queued).values(queued=self._clock()))
            notify(connection, "")

    def owners(self) -> list[str]:
        """List the owners of jobs that this server can take."""
        with self._database.snapshot() as connection:
            return list(connection.scalars(sa.select(jobs.c.owner).where(self._can_take).distinct()))

    def claim(self, can_run: Callable[[dict[str, Any]], bool], seconds: float) -> Claim | None:
        """Return who should get the next slot, without taking a job; None if no job waits that qualifies.

        Only jobs that have waited for at least `seconds` and whose spec `can_run` accepts qualify.
        """
        overdue = sa.and_(self._can_take, jobs.c.queued <= self._clock() - seconds)
        with self._database.snapshot() as connection:
            owners, running = self._owners_in_turn(connection, overdue)
            row = _first(connection, owners, overdue, can_run)
        return None if row is None else Claim(row["owner"], str(self._database.server), running)

    def take(self, can_run: Callable[[dict[str, Any]], bool]) -> DequeuedJob | None:
        """Take the next job for this server; None if it can run none of the waiting jobs, by their specs.

        The job belongs to the owner with the fewest running attempts over all servers; among equals, to the one served longest ago,
        then to the one whose job has waited longest. Of that owner's jobs, those that were attempted before come first, then the
        oldest.
        """
        if not self.owners():
            return None
        with self._database.transaction() as connection:
            owners, _ = self._owners_in_turn(connection, self._can_take)
            row = _first(connection, owners, self._can_take, can_run)
            if row is None:
                return None
            self._assign(connection, row)
        return DequeuedJob(row["request_id"], max(0.0, self._clock() - row["queued"]))

    def _owners_in_turn(
        self, connection: sa.Connection, condition: sa.ColumnElement[bool]
    ) -> tuple[list[str], Counter[tuple[str, str]]]:
        """List the owners of the queued jobs that satisfy a condition, the next one first, and count running attempts.

        The attempts are counted by owner and server, and only if there is such a job.
        """
        columns = sa.select(jobs.c.owner, sa.func.max(keys.c.served), sa.func.min(jobs.c.queued))
        query = columns.join(keys, keys.c.name == jobs.c.owner, isouter=True).where(condition).group_by(jobs.c.owner)
        rows = connection.execute(query).all()
        running = _count_running(connection) if rows else Counter()
        total = by_owner(running)
        return [row[0] for row in sorted(rows, key=lambda row: (total[row[0]], row[1] or 0, row[2]))], running

    def _assign(self, connection: sa.Connection, row: sa.RowMapping) -> None:
        is_job = jobs.c.request_id == row["request_id"]
        connection.execute(jobs.update().where(is_job).values(server=self._database.server, queued=None))
        last = connection.scalar(sa.select(sa.func.max(keys.c.served))) or 0
        connection.execute(keys.update().where(keys.c.name == row["owner"]).values(served=last + 1))

    def count_places(self) -> int:
        """Count the waiting jobs and those whose source is still being uploaded, over all servers."""
        with self._database.snapshot() as connection:
            return sum(places_by_owner(connection).values())

    def count(self) -> QueueStats:
        """Return the figures of the waiting jobs that this server owns until another one takes them."""
        query = sa.select(sa.func.count(), sa.func.count(jobs.c.owner.distinct()), sa.func.min(jobs.c.queued))
        with self._database.snapshot() as connection:
            own = sa.and_(_is_queued, jobs.c.server == self._database.server)
            number, owners, oldest = connection.execute(query.where(own)).one()
        return QueueStats(number, owners, max(0.0, self._clock() - oldest) if oldest is not None else 0.0)


def _first(
    connection: sa.Connection,
    owners: Iterable[str],
    condition: sa.ColumnElement[bool],
    can_run: Callable[[dict[str, Any]], bool],
) -> sa.RowMapping | None:
    """Find the next job that can run: of the first owner that has one among its first MAX_EXAMINED queued jobs."""
    for owner in owners:
        first = (
            jobs.select()
            .where(condition, jobs.c.owner == owner)
            .order_by(jobs.c.status.desc(), jobs.c.number)  # `processing` before `pending`
            .limit(MAX_EXAMINED)
        )
        for row in connection.execute(first).mappings():
            if can_run(row["spec"]):
                return row
    return None


def by_owner(running: Mapping[tuple[str, str], int]) -> Counter[str]:
    """Sum attempts over all servers. running: by owner and server."""
    totals: Counter[str] = Counter()
    for (owner, _), number in running.items():
        totals[owner] += number
    return totals


def _count_running(connection: sa.Connection) -> Counter[tuple[str, str]]:
    """Count running attempts by owner and server, except live ones and those of late servers.

    A job whose attempt yielded its slot, and which waits for its source or a lock, is not counted: `states.requeued` has subtracted
    that attempt. The exception is a job with an earlier attempt that died: its row looks like that of a running job.
    """
    attempted = sa.and_(jobs.c.status == Status.PROCESSING, jobs.c.attempts > 0, ~_is_queued)
    has_lease = sa.and_(leases.c.name == jobs.c.server, leases.c.until > sa.extract("epoch", sa.func.clock_timestamp()))
    query = sa.select(jobs.c.owner, jobs.c.server, jobs.c.spec).join(leases, has_lease).where(attempted)
    return Counter((row.owner, row.server) for row in connection.execute(query) if not row.spec.get("live"))


def places_by_owner(connection: sa.Connection) -> dict[str, int]:
    """Count each owner's waiting jobs and those whose source is still being uploaded, over all servers."""
    waiting = sa.and_(unfinished, sa.or_(_is_queued, sa.not_(jobs.c.accepted)))
    query = sa.select(jobs.c.owner, sa.func.count()).where(waiting).group_by(jobs.c.owner)
    return {row[0]: row[1] for row in connection.execute(query)}
