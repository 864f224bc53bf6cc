"""Files that are no longer needed, as rows: written in the transaction that makes them so, struck out when they are removed.

Nothing is ever removed because no row knows it: it may belong to another server, or to a database that was lost or restored.
"""

from dataclasses import asdict, dataclass, replace
from enum import StrEnum

import sqlalchemy as sa

from .database import Database
from .schema import cleanups as table

_ALL = table.c.request_id == sa.bindparam("this")
_DELETE_ALL = table.delete().where(_ALL)
_DELETE = table.delete().where(_ALL, table.c.what == sa.bindparam("part"))
_INSERT = table.insert()


class What(StrEnum):
    """Which files of a job: its source and the joined file beside it, its log, its folder, its result, or all of them."""

    SOURCE = "source"
    LOG = "log"
    FOLDER = "folder"
    RESULT = "result"
    EVERYTHING = "everything"


@dataclass(frozen=True, slots=True)
class Cleanup:
    """Files to be removed from `due_at` on, in Unix seconds."""

    request_id: str
    what: What
    result_prefix: str
    due_at: float


class Cleanups:
    """The cleanups of one server's database. Every call is short."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def due(self, now: float, limit: int = 100) -> list[Cleanup]:
        """List what is due, longest first."""
        query = table.select().where(table.c.due_at <= now).order_by(table.c.due_at).limit(limit)
        with self._database.snapshot() as connection:
            rows = connection.execute(query).mappings()
            return [Cleanup(row["request_id"], What(row["what"]), row["result_prefix"], row["due_at"]) for row in rows]

    def done(self, request_id: str, what: What) -> None:
        """Strike out what was removed."""
        with self._database.transaction() as connection:
            connection.execute(_DELETE, {"this": request_id, "part": what})

    def postpone(self, cleanup: Cleanup, due_at: float) -> None:
        """Try again later, whether or not it was a row before."""
        with self._database.transaction() as connection:
            schedule(connection, replace(cleanup, due_at=due_at))


def schedule(connection: sa.Connection, cleanup: Cleanup) -> None:
    """Add a cleanup in the transaction that makes it needed; everything of a job takes the place of its parts."""
    this = {"this": cleanup.request_id, "part": cleanup.what}
    connection.execute(_DELETE_ALL if cleanup.what is What.EVERYTHING else _DELETE, this)
    connection.execute(_INSERT, asdict(cleanup))
