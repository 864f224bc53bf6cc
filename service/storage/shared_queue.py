"""The jobs that wait for an attempt at any of several servers, as rows: taken one at a time, in the order of `fair_queue` over all.

A transaction has the turn to write to itself, so that no two servers take the same job, and each counts what the others have taken.
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

MOST_LOOKED_AT = 32  # jobs of a key, of which a server takes the first that it can run

_waits = jobs.c.queued.is_not(None)


@dataclass(frozen=True, slots=True)
class DequeuedJob:
    """A job that this server has now. waited: for how long it had waited, in seconds."""

    request_id: str
    waited: float


@dataclass(frozen=True, slots=True)
class QueueStats:
    """How many jobs wait, of how many keys. oldest: how long the job has waited that has waited longest, in seconds."""

    jobs: int
    keys: int
    oldest: float


@dataclass(frozen=True, slots=True)
class Claim:
    """Whose job is next to have a slot of a full server. running: attempts under way at all servers, by owner and server."""

    owner: str
    server: str
    running: Counter[tuple[str, str]]


class SharedQueue:
    """The queue of one database, as one server sees it. Every call is short. clock: Unix seconds."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    @property
    def _takes(self) -> sa.ColumnElement[bool]:
        """Of jobs that wait: whether this server can take them. A source that still arrives is this server's or not."""
        return sa.and_(_waits, sa.or_(jobs.c.source_complete, jobs.c.server == self._database.server))

    def put(self, request_ids: Collection[str]) -> None:
        """Let jobs of this server wait, of which any server that can may take one."""
        ours = sa.and_(jobs.c.request_id.in_(request_ids), jobs.c.server == self._database.server, unfinished)
        with self._database.transaction() as connection:
            connection.execute(jobs.update().where(ours, ~_waits).values(queued=self._clock()))
            notify(connection, "")

    def owners(self) -> list[str]:
        """List the owners of jobs that this server can take."""
        with self._database.snapshot() as connection:
            return list(connection.scalars(sa.select(jobs.c.owner).where(self._takes).distinct()))

    def claim(self, can_run: Callable[[dict[str, Any]], bool], seconds: float) -> Claim | None:
        """Give the claim of the next job that this server can run, by its spec; None where none has waited for so long."""
        long = sa.and_(self._takes, jobs.c.queued <= self._clock() - seconds)
        with self._database.snapshot() as connection:
            owners, running = self._owners_in_turn(connection, long)
            row = _first(connection, owners, long, can_run)
        return None if row is None else Claim(row["owner"], str(self._database.server), running)

    def take(self, can_run: Callable[[dict[str, Any]], bool]) -> DequeuedJob | None:
        """Take the next job for this server; None where none waits that it can run, by its spec.

        It is of the key with the fewest attempts under way at all servers, of these of the one that was served longest ago; of that
        one a job that was attempted before, else the oldest.
        """
        if not self.owners():
            return None
        with self._database.transaction() as connection:
            owners, _ = self._owners_in_turn(connection, self._takes)
            row = _first(connection, owners, self._takes, can_run)
            if row is None:
                return None
            self._assign(connection, row)
        return DequeuedJob(row["request_id"], max(0.0, self._clock() - row["queued"]))

    def _owners_in_turn(
        self, connection: sa.Connection, waits: sa.ColumnElement[bool]
    ) -> tuple[list[str], Counter[tuple[str, str]]]:
        """List the owners of jobs that wait, next first; count what runs, by owner and server, where there are any."""
        served = sa.select(jobs.c.owner, sa.func.max(keys.c.served), sa.func.min(jobs.c.queued))
        joined = served.join(keys, keys.c.name == jobs.c.owner, isouter=True).where(waits).group_by(jobs.c.owner)
        rows = connection.execute(joined).all()
        running = _under_way(connection) if rows else Counter()
        of = by_owner(running)
        return [row[0] for row in sorted(rows, key=lambda row: (of[row[0]], row[1] or 0, row[2]))], running

    def _assign(self, connection: sa.Connection, row: sa.RowMapping) -> None:
        this = jobs.c.request_id == row["request_id"]
        connection.execute(jobs.update().where(this).values(server=self._database.server, queued=None))
        last = connection.scalar(sa.select(sa.func.max(keys.c.served))) or 0
        connection.execute(keys.update().where(keys.c.name == row["owner"]).values(served=last + 1))

    def count_places(self) -> int:
        """Count the jobs that hold a place of the queue, at all servers."""
        with self._database.snapshot() as connection:
            return sum(places_by_owner(connection).values())

    def count(self) -> QueueStats:
        """Count what waits and is this server's until another one takes it."""
        query = sa.select(sa.func.count(), sa.func.count(jobs.c.owner.distinct()), sa.func.min(jobs.c.queued))
        with self._database.snapshot() as connection:
            ours = sa.and_(_waits, jobs.c.server == self._database.server)
            number, owners, oldest = connection.execute(query.where(ours)).one()
        return QueueStats(number, owners, max(0.0, self._clock() - oldest) if oldest is not None else 0.0)


def _first(
    connection: sa.Connection,
    owners: Iterable[str],
    waits: sa.ColumnElement[bool],
    can_run: Callable[[dict[str, Any]], bool],
) -> sa.RowMapping | None:
    """Find the first job that can run, of the first owner who has one among the first MOST_LOOKED_AT that wait."""
    for owner in owners:
        first = (
            jobs.select()
            .where(waits, jobs.c.owner == owner)
            .order_by(jobs.c.status.desc(), jobs.c.number)  # `processing` before `pending`
            .limit(MOST_LOOKED_AT)
        )
        for row in connection.execute(first).mappings():
            if can_run(row["spec"]):
                return row
    return None


def by_owner(running: Mapping[tuple[str, str], int]) -> Counter[str]:
    """Count the attempts of each owner at all servers. running: by owner and server."""
    counted: Counter[str] = Counter()
    for (owner, _), number in running.items():
        counted[owner] += number
    return counted


def _under_way(connection: sa.Connection) -> Counter[tuple[str, str]]:
    """Count the attempts under way at all servers, by owner and server, live ones apart, and those of servers that are late.

    A job that gave its slot back, and waits for its source or a lock, has none: that attempt was taken back, so that none is left.
    Only where one before it had died as well is the job still counted, for its row is as if it were attempted.
    """
    attempted = sa.and_(jobs.c.status == Status.PROCESSING, jobs.c.attempts > 0, ~_waits)
    lives = sa.and_(leases.c.name == jobs.c.server, leases.c.until > sa.extract("epoch", sa.func.clock_timestamp()))
    query = sa.select(jobs.c.owner, jobs.c.server, jobs.c.spec).join(leases, lives).where(attempted)
    return Counter((row.owner, row.server) for row in connection.execute(query) if not row.spec.get("live"))


def places_by_owner(connection: sa.Connection) -> dict[str, int]:
    """Count the jobs of each owner that wait, or whose source is to come, at all servers."""
    held = sa.and_(unfinished, sa.or_(_waits, sa.not_(jobs.c.accepted)))
    counted = sa.select(jobs.c.owner, sa.func.count()).where(held).group_by(jobs.c.owner)
    return {row[0]: row[1] for row in connection.execute(counted)}
