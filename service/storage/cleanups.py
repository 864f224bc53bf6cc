"""Scheduled removals of files, as rows: written in the transaction that makes the files unnecessary, deleted once they are gone.

Files are never removed just because no row refers to them: they may belong to another server, or to a lost or restored database.
"""

from dataclasses import asdict, dataclass, replace
from enum import StrEnum

import sqlalchemy as sa

from .database import Database
from .schema import cleanups as table

LATEST_SECONDS = 2 * 3600.0  # more than any cleanup is scheduled ahead

_ALL = table.c.request_id == sa.bindparam("this")
_DELETE_ALL = table.delete().where(_ALL)
_DELETE = table.delete().where(_ALL, table.c.what == sa.bindparam("part"))
_INSERT = table.insert()


class JobFiles(StrEnum):
    """Which files of a job: its source with the local joined file, its log, its folder, its stored result, or all of them."""

    SOURCE = "source"
    LOG = "log"
    FOLDER = "folder"
    RESULT = "result"
    EVERYTHING = "everything"


@dataclass(frozen=True, slots=True)
class Cleanup:
    """Removal of files, due at `due_at` in Unix seconds."""

    request_id: str
    what: JobFiles
    result_prefix: str
    due_at: float


class Cleanups:
    """Scheduled cleanups of a database. Every call is short."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def due(self, now: float, limit: int = 100) -> list[Cleanup]:
        """List the cleanups that are due, oldest first, and those that were scheduled before the clock was set back."""
        due = sa.or_(table.c.due_at <= now, table.c.due_at > now + LATEST_SECONDS)
        query = table.select().where(due).order_by(table.c.due_at).limit(limit)
        with self._database.snapshot() as connection:
            rows = connection.execute(query).mappings()
            return [
                Cleanup(row["request_id"], JobFiles(row["what"]), row["result_prefix"], row["due_at"]) for row in rows
            ]

    def done(self, request_id: str, what: JobFiles) -> None:
        """Delete the row of a completed cleanup."""
        with self._database.transaction() as connection:
            connection.execute(_DELETE, {"this": request_id, "part": what})

    def postpone(self, cleanup: Cleanup, due_at: float) -> None:
        """Reschedule a cleanup, which need not have a row yet."""
        with self._database.transaction() as connection:
            schedule(connection, replace(cleanup, due_at=due_at))


def schedule(connection: sa.Connection, cleanup: Cleanup) -> None:
    """Add a cleanup within an open transaction; EVERYTHING replaces the job's other cleanups."""
    this = {"this": cleanup.request_id, "part": cleanup.what}
    connection.execute(_DELETE_ALL if cleanup.what is JobFiles.EVERYTHING else _DELETE, this)
    connection.execute(_INSERT, asdict(cleanup))
