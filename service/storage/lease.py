"""The right to work on the jobs of a database that several servers reach: one has it at a time, and the others wait.

It is a row with the time, by the database's clock, until which it holds. Its holder renews it; one that has died or hangs does
not, and another takes it. Every transaction of a holder looks whether it still is, in the turn that it has to itself: a server
that comes back too late changes nothing.
"""

import secrets
from dataclasses import dataclass, field

import sqlalchemy as sa

from upres.service.domain.errors import TakenOverError

from .schema import leases

SECONDS = 10.0  # for which a lease holds after it was renewed
RENEW_SECONDS = 2.0
WORK = "work"  # the only lease there is


@dataclass(frozen=True, slots=True)
class Lease:
    """One server's part in it. server: how the others call who holds it."""

    server: str
    holder: str = field(default_factory=lambda: secrets.token_hex(8))

    def take(self, connection: sa.Connection) -> str | None:
        """Take it where nobody holds it now; give the server that does, None where it is ours."""
        now = float(connection.scalar(sa.select(_now())) or 0)
        row = connection.execute(leases.select().where(leases.c.name == WORK)).mappings().first()
        if row is not None and row["until"] > now and row["holder"] != self.holder:
            return str(row["server"])
        connection.execute(leases.delete().where(leases.c.name == WORK))
        values = {"name": WORK, "holder": self.holder, "server": self.server, "until": now + SECONDS}
        connection.execute(leases.insert().values(values))
        return None

    def renew(self, connection: sa.Connection) -> None:
        """Hold it from now on for as long as a lease does."""
        connection.execute(leases.update().where(leases.c.name == WORK).values(until=_now() + SECONDS))

    def check(self, connection: sa.Connection) -> None:
        """Raise TakenOverError where another server holds it, for which this one had not renewed it in time."""
        row = connection.execute(leases.select().where(leases.c.name == WORK)).mappings().first()
        if row is None or row["holder"] != self.holder:
            raise TakenOverError(f"{row['server'] if row else 'another server'} has taken over")

    def give_up(self, connection: sa.Connection) -> None:
        """Let another server take it now."""
        connection.execute(leases.delete().where(leases.c.name == WORK, leases.c.holder == self.holder))


def _now() -> sa.ColumnElement[float]:
    return sa.cast(sa.func.extract("epoch", sa.func.clock_timestamp()), sa.Float)
