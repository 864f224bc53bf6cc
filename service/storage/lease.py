"""Leases of the servers that share a database, with leader election.

Each server has a row with the time, by the database's clock, at which its lease expires, and owns the jobs that name it. It renews
the row until it dies or hangs. Another row, `work`, is held by the leader: it does what only one server may do, and takes over the
jobs of servers that are gone. A server of an earlier version knows only that row, and owns all jobs while it holds it.

Every write transaction of a server first checks that it still holds its rows, so a server that returns too late changes nothing.
"""

import secrets
from collections.abc import Collection
from dataclasses import dataclass, field

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from upres.service.domain.errors import TakenOverError

from .agreed_store import agree
from .dialects import clock
from .schema import leases, meta

SECONDS = 10.0  # lifetime of a lease after its last renewal
RENEW_SECONDS = 2.0
WORK = "work"  # name of the leader's row; every other row has its holder as its name
TERM = "lease_term"  # name in `meta`, where the term outlives the lease's row, which is deleted on release
WRITTEN = "written by "  # name in `meta`, followed by the holder: the number of a server's last transaction

_holder_columns = leases.c.name, leases.c.holder, leases.c.server


@dataclass(frozen=True, slots=True)
class Holder:
    """A server. id: a new one for each start. server: its display name.

    http, grpc: where other servers reach it, as URL and HOST:PORT; None if it is of a version that does not publish them.
    """

    id: str
    server: str
    http: str | None = None
    grpc: str | None = None


@dataclass(frozen=True, slots=True)
class Servers:
    """Ids of a database's servers. working: with a valid lease. late: with an expired one. leader: the one that leads."""

    working: frozenset[str]
    late: frozenset[str]
    leader: str | None


@dataclass(slots=True)
class Lease:
    """Lease of one server. server, http, grpc: as for `Holder`. joins: whether it works alongside an existing leader.

    kept: the URL of the object store for jobs; None if jobs are in a shared folder.
    term: number of leaders so far including this one, once it leads; 0 before. It fences off earlier leaders where the state is
    not in the database.
    """

    server: str
    http: str | None = None
    grpc: str | None = None
    joins: bool = False
    kept: str | None = None
    holder: str = field(default_factory=lambda: secrets.token_hex(8))
    term: int = 0
    _written: int = 0  # number of its transactions so far

    @property
    def leads(self) -> bool:
        """Report whether this server is the leader."""
        return self.term > 0

    def acquire(self, connection: sa.Connection, *, late: bool = False) -> Holder | int:
        """Become the leader and return the term, or join a leader and return 0, or return a leader that cannot be joined.

        late: replace a leader whose lease has expired. A server that starts does not know for how long it has been expired, so it
        joins an expired leader too.
        Raises OtherStoreError.
        """
        agree(connection, self.kept, self.holder)
        row = connection.execute(leases.select().where(leases.c.name == WORK).with_for_update()).mappings().first()
        now = float(connection.scalar(sa.select(clock())) or 0)
        other = row if row is not None and row["holder"] != self.holder else None
        joins = other is not None and self.joins and _shares(connection, other["holder"])
        if other is not None and (other["until"] > now or (joins and not late)):
            if not joins:
                return Holder(other["holder"], other["server"], other["http"], other["grpc"])
            names, term = [self.holder], 0
        else:
            names, term = [self.holder, WORK], _next_term(connection)
        ended = [other["holder"]] if other is not None and WORK in names else []  # from now on it cannot write
        connection.execute(leases.delete().where(leases.c.name.in_([*names, *ended])))
        same = {"holder": self.holder, "server": self.server, "http": self.http, "grpc": self.grpc}
        connection.execute(leases.insert(), [{"name": name, "until": now + SECONDS, **same} for name in names])
        ended_too = ~sa.exists().where(WRITTEN + leases.c.name == meta.c.name)
        connection.execute(meta.delete().where(meta.c.name.startswith(WRITTEN), ended_too))
        return term

    def renew(self, connection: sa.Connection) -> None:
        """Extend the lease. Raises TakenOverError.

        This is not serialized with other transactions: it changes only its own rows, one of which `acquire` locks.
        """
        connection.execute(leases.update().where(leases.c.holder == self.holder).values(until=clock() + SECONDS))
        self.check(connection)

    def write(self, connection: sa.Connection) -> int:
        """Record a transaction as part of it; return its number among those of this server. Raises TakenOverError."""
        self._written += 1
        row = insert(meta).values(name=WRITTEN + self.holder, value=str(self._written))
        row = row.on_conflict_do_update(index_elements=[meta.c.name], set_={"value": row.excluded.value})
        self.check(connection, sa.select(*_holder_columns).add_cte(row.cte("written")))  # in one statement
        return self._written

    def has_written(self, connection: sa.Connection, number: int) -> bool:
        """Report whether this server's last transaction, which has this number, was committed."""
        return connection.scalar(sa.select(meta.c.value).where(meta.c.name == WRITTEN + self.holder)) == str(number)

    def check(self, connection: sa.Connection, query: sa.Select[str, str, str] | None = None) -> None:
        """Raise TakenOverError if this server's lease expired and another server has its jobs or leads in its place."""
        rows = {row.name: row for row in connection.execute(sa.select(*_holder_columns) if query is None else query)}
        work = rows.get(WORK)
        older = work is not None and work.holder not in rows  # a leader of an earlier version, which owns all jobs
        led = self.leads and (work is None or work.holder != self.holder)
        if self.holder not in rows or older or led:
            taker = work.server if work is not None and work.holder != self.holder else "another server"
            raise TakenOverError(f"{taker} has taken over")

    def release(self, connection: sa.Connection) -> None:
        """Release the lease, so that another server can replace this one at once."""
        connection.execute(leases.delete().where(leases.c.holder == self.holder))


def read_servers(connection: sa.Connection) -> Servers:
    """Read the servers of a database."""
    rows = connection.execute(sa.select(leases.c.name, leases.c.holder, leases.c.until, clock().label("now"))).all()
    servers = [row for row in rows if row.name != WORK]
    return Servers(
        frozenset(row.name for row in servers if row.until > row.now),
        frozenset(row.name for row in servers if row.until <= row.now),
        next((row.holder for row in rows if row.name == WORK), None),
    )


def expire(connection: sa.Connection, late: Collection[str]) -> None:
    """Delete the leases of late servers, unless they were renewed since: from then on their writes are rejected."""
    connection.execute(leases.delete().where(leases.c.name.in_(late), leases.c.until <= clock()))


def _shares(connection: sa.Connection, holder: str) -> bool:
    """Report whether the leader works alongside other servers: then it also has a row of its own."""
    return connection.scalar(sa.select(leases.c.name).where(leases.c.name == holder)) is not None


def _next_term(connection: sa.Connection) -> int:
    previous = connection.scalar(sa.select(meta.c.value).where(meta.c.name == TERM))
    term = int(previous or 0) + 1
    connection.execute(meta.delete().where(meta.c.name == TERM))
    connection.execute(meta.insert().values(name=TERM, value=str(term)))
    return term
