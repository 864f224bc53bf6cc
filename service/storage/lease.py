"""Which servers work on the jobs of a database that several reach.

Each has a row with the time, by the database's clock, until which it holds, and works on the jobs that name it. It renews the row;
one that has died or hangs does not. Another row, `work`, is held by the one that leads: it does what only one may, and takes over
the jobs of those that are gone. A server of a version before this one knows that row alone, and has all jobs while it holds it.

Every transaction of a server looks whether it still has its rows, in the turn that it has to itself: one that comes back too late
changes nothing.
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

SECONDS = 10.0  # for which a lease holds after it was renewed
RENEW_SECONDS = 2.0
WORK = "work"  # the row of the one that leads; every other one is called by its holder
TERM = "lease_term"  # in `meta`, where it outlives the row: it is removed when the lease is given up
WRITTEN = "written by "  # in `meta`, with its holder: the number of a server's last transaction

_held = leases.c.name, leases.c.holder, leases.c.server


@dataclass(frozen=True, slots=True)
class Holder:
    """A server. id: another one each time that it starts. server: how it is called.

    http, grpc: where other servers reach it, as URL and HOST:PORT; None where it is of a version that does not say.
    """

    id: str
    server: str
    http: str | None = None
    grpc: str | None = None


@dataclass(frozen=True, slots=True)
class Servers:
    """The servers at one look, by id. working: their lease holds. late: they have not renewed it. leader: the one that leads."""

    working: frozenset[str]
    late: frozenset[str]
    leader: str | None


@dataclass(slots=True)
class Lease:
    """One server's part in it. server, http, grpc: of the holder that it is. joins: it works beside one that leads.
    kept: the URL of the store where it keeps jobs; None where that is a folder.

    term: counts those that have led, up to this one, from when it leads on; 0 before. What is no row of the database is kept by it
    from those that led before.
    """

    server: str
    http: str | None = None
    grpc: str | None = None
    joins: bool = False
    kept: str | None = None
    holder: str = field(default_factory=lambda: secrets.token_hex(8))
    term: int = 0
    _written: int = 0  # transactions

    @property
    def leads(self) -> bool:
        """Report whether this server leads."""
        return self.term > 0

    def take(self, connection: sa.Connection, *, late: bool = False) -> Holder | int:
        """Lead where nobody does, and give the term; else join the one that does, and give 0, or that one where it cannot be.

        late: of one that is late the place is taken. Who starts cannot say for how long it was, so it joins it as well.
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
        ended = [other["holder"]] if other is not None and WORK in names else []  # by this it can write nothing more
        connection.execute(leases.delete().where(leases.c.name.in_([*names, *ended])))
        same = {"holder": self.holder, "server": self.server, "http": self.http, "grpc": self.grpc}
        connection.execute(leases.insert(), [{"name": name, "until": now + SECONDS, **same} for name in names])
        ended_too = ~sa.exists().where(WRITTEN + leases.c.name == meta.c.name)
        connection.execute(meta.delete().where(meta.c.name.startswith(WRITTEN), ended_too))
        return term

    def renew(self, connection: sa.Connection) -> None:
        """Hold its rows from now on for as long as a lease does; raises TakenOverError.

        It waits for no turn: what it changes is these rows alone, one of which `take` locks.
        """
        connection.execute(leases.update().where(leases.c.holder == self.holder).values(until=clock() + SECONDS))
        self.check(connection)

    def write(self, connection: sa.Connection) -> int:
        """Note a transaction beside what it changes; give its number among those of this server. Raises TakenOverError."""
        self._written += 1
        row = insert(meta).values(name=WRITTEN + self.holder, value=str(self._written))
        row = row.on_conflict_do_update(index_elements=[meta.c.name], set_={"value": row.excluded.value})
        self.check(connection, sa.select(*_held).add_cte(row.cte("written")))  # in one step
        return self._written

    def has_written(self, connection: sa.Connection, number: int) -> bool:
        """Report whether the transaction of this number, after which there was no other one, was committed."""
        return connection.scalar(sa.select(meta.c.value).where(meta.c.name == WRITTEN + self.holder)) == str(number)

    def check(self, connection: sa.Connection, query: sa.Select[str, str, str] | None = None) -> None:
        """Raise TakenOverError where another server has this one's jobs, or leads in its place, for it had not renewed in time."""
        rows = {row.name: row for row in connection.execute(sa.select(*_held) if query is None else query)}
        work = rows.get(WORK)
        older = work is not None and work.holder not in rows  # it takes all jobs for its own
        led = self.leads and (work is None or work.holder != self.holder)
        if self.holder not in rows or older or led:
            taker = work.server if work is not None and work.holder != self.holder else "another server"
            raise TakenOverError(f"{taker} has taken over")

    def give_up(self, connection: sa.Connection) -> None:
        """Let another server take its place now."""
        connection.execute(leases.delete().where(leases.c.holder == self.holder))


def seen(connection: sa.Connection) -> Servers:
    """Look which servers there are."""
    rows = connection.execute(sa.select(leases.c.name, leases.c.holder, leases.c.until, clock().label("now"))).all()
    servers = [row for row in rows if row.name != WORK]
    return Servers(
        frozenset(row.name for row in servers if row.until > row.now),
        frozenset(row.name for row in servers if row.until <= row.now),
        next((row.holder for row in rows if row.name == WORK), None),
    )


def end(connection: sa.Connection, late: Collection[str]) -> None:
    """Remove the leases of servers that are late, and have not renewed them since: what they write is refused from now on."""
    connection.execute(leases.delete().where(leases.c.name.in_(late), leases.c.until <= clock()))


def _shares(connection: sa.Connection, holder: str) -> bool:
    """Report whether the server that leads works beside others: it has a lease of its own besides."""
    return connection.scalar(sa.select(leases.c.name).where(leases.c.name == holder)) is not None


def _next_term(connection: sa.Connection) -> int:
    found = connection.scalar(sa.select(meta.c.value).where(meta.c.name == TERM))
    term = int(found or 0) + 1
    connection.execute(meta.delete().where(meta.c.name == TERM))
    connection.execute(meta.insert().values(name=TERM, value=str(term)))
    return term
