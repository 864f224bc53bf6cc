"""The right to work on the jobs of a database that several servers reach: one has it at a time, and the others wait.

It is a row with the time, by the database's clock, until which it holds. Its holder renews it; one that has died or hangs does
not, and another takes it. Every transaction of a holder looks whether it still is, in the turn that it has to itself: a server
that comes back too late changes nothing.
"""

import secrets
from dataclasses import dataclass, field

import sqlalchemy as sa

from upres.service.domain.errors import TakenOverError

from .schema import leases, meta

SECONDS = 10.0  # for which a lease holds after it was renewed
RENEW_SECONDS = 2.0
WORK = "work"  # the only lease there is
TERM = "lease_term"  # in `meta`, where it outlives the row: it is removed when the lease is given up


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds it. id: another one each time that a server starts. server: how it is called.

    http, grpc: where other servers reach it, as URL and HOST:PORT; None where it is of a version that does not say.
    """

    id: str
    server: str
    http: str | None = None
    grpc: str | None = None


@dataclass(slots=True)
class Lease:
    """One server's part in it. server, http, grpc: of the holder that it is while it has the lease.

    term: counts the holders up to this one, from its take on. What is no row of the database is kept by it from holders of before.
    """

    server: str
    http: str | None = None
    grpc: str | None = None
    holder: str = field(default_factory=lambda: secrets.token_hex(8))
    term: int = 0

    def take(self, connection: sa.Connection) -> Holder | None:
        """Take it where nobody holds it now; give who does, None where it is ours."""
        row = connection.execute(leases.select().where(leases.c.name == WORK).with_for_update()).mappings().first()
        now = float(connection.scalar(sa.select(_now())) or 0)
        if row is not None and row["until"] > now and row["holder"] != self.holder:
            return Holder(row["holder"], row["server"], row["http"], row["grpc"])
        self.term = _next_term(connection)
        connection.execute(leases.delete().where(leases.c.name == WORK))
        where = {"server": self.server, "http": self.http, "grpc": self.grpc}
        connection.execute(leases.insert().values(name=WORK, holder=self.holder, until=now + SECONDS, **where))
        return None

    def renew(self, connection: sa.Connection) -> None:
        """Hold it from now on for as long as a lease does; raises TakenOverError.

        It waits for no turn: what it changes is this row alone, which `take` locks.
        """
        ours = sa.and_(leases.c.name == WORK, leases.c.holder == self.holder)
        if not connection.execute(leases.update().where(ours).values(until=_now() + SECONDS)).rowcount:
            self.check(connection)

    def check(self, connection: sa.Connection) -> None:
        """Raise TakenOverError where another server holds it, for which this one had not renewed it in time."""
        row = connection.execute(leases.select().where(leases.c.name == WORK)).mappings().first()
        if row is None or row["holder"] != self.holder:
            raise TakenOverError(f"{row['server'] if row else 'another server'} has taken over")

    def give_up(self, connection: sa.Connection) -> None:
        """Let another server take it now."""
        connection.execute(leases.delete().where(leases.c.name == WORK, leases.c.holder == self.holder))


def _next_term(connection: sa.Connection) -> int:
    found = connection.scalar(sa.select(meta.c.value).where(meta.c.name == TERM))
    term = int(found or 0) + 1
    connection.execute(meta.delete().where(meta.c.name == TERM))
    connection.execute(meta.insert().values(name=TERM, value=str(term)))
    return term


def _now() -> sa.ColumnElement[float]:
    return sa.cast(sa.func.extract("epoch", sa.func.clock_timestamp()), sa.Float)
