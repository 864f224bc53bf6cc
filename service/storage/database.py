"""The database of one server: opened, brought to this version's tables, written one transaction at a time, read at any time.

SQLite by default (WAL, synchronous=FULL: what was committed survives a power cut); nothing here is particular to it but the
pragmas. `in_memory` is the twin for tests: the same code on a database that lives as long as the object.
"""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self

import sqlalchemy as sa
from sqlalchemy.pool import StaticPool

from upres.service.domain.errors import DiskFullError, StoreError

from .revisions import upgrade
from .schema import meta

READERS = 16  # connections that are kept open; as many again are opened when needed
SNAPSHOT = "upres_snapshot"  # the execution option of a connection that only reads
FULL = ("SQLITE_FULL", "53100")  # sqlite3's name and PostgreSQL's SQLSTATE of a disk that is full
MISTAKE = "SQLITE_ERROR"  # a statement that does not fit the tables: a fault of ours, not of the disk
MISTAKES = (sa.exc.IntegrityError, sa.exc.ProgrammingError, sa.exc.DataError, sa.exc.NotSupportedError)
DAMAGED = ("SQLITE_CORRUPT", "SQLITE_NOTADB", "XX001", "XX002")
REPAIR = "stop the server, and restore a backup, or save what can be read: sqlite3 DAMAGED .recover | sqlite3 NEW"


class Database:
    """Safe to use from several threads. Raises StoreError where it cannot be opened, is damaged, or is of a newer version."""

    def __init__(self, url: str) -> None:
        self._memory = url == "sqlite://"
        options: dict[str, Any] = (
            {"poolclass": StaticPool, "connect_args": {"check_same_thread": False}}
            if self._memory
            else {"pool_size": READERS, "max_overflow": READERS}
        )
        try:
            self._engine = sa.create_engine(url, **options)
        except (sa.exc.ArgumentError, ImportError) as error:
            raise StoreError(
                f"the setting `database` is no URL of a database that can be used here ({error})"
            ) from error
        self._lock = threading.RLock()
        if self._engine.dialect.name == "sqlite":
            sa.event.listen(self._engine, "connect", _pragmas)
            sa.event.listen(self._engine, "begin", _begin)
        try:
            with self.transaction() as connection:
                upgrade(connection)
        except StoreError as error:
            self.close()
            raise StoreError(f"{self._engine.url.render_as_string()}: {error}") from error

    @classmethod
    def in_memory(cls) -> Self:
        """Open a database that lives as long as the object."""
        return cls("sqlite://")

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    @contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """Commit all that is done inside as one, or nothing. One at a time. Raises StoreError, DiskFullError."""
        with self._lock, _translated(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def snapshot(self) -> Iterator[sa.Connection]:
        """Read what was committed by now; waits for no transaction. Raises StoreError."""
        if self._memory:  # it has one connection only
            with self.transaction() as connection:
                yield connection
            return
        with _translated(), self._engine.connect() as connection:
            reading = connection.execution_options(**{SNAPSHOT: True})
            with reading.begin():
                yield reading

    def meta(self, name: str, default: Callable[[], str]) -> str:
        """Give a value that is kept for good, made by `default` when it is first asked for."""
        with self.transaction() as connection:
            value = connection.scalar(sa.select(meta.c.value).where(meta.c.name == name))
            if value is None:
                value = default()
                connection.execute(meta.insert().values(name=name, value=value))
            return str(value)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except sa.exc.TimeoutError as error:
        raise StoreError("the database is busy; try again") from error
    except sa.exc.DBAPIError as error:
        cause = error.orig
        code = str(getattr(cause, "sqlite_errorname", None) or getattr(cause, "sqlstate", None) or "")
        if code == MISTAKE or isinstance(error, MISTAKES):
            raise
        raise _as_store_error(code, cause) from error


def _as_store_error(code: str, cause: BaseException | None) -> StoreError:
    if code.startswith(FULL):
        return DiskFullError("the disk of the database is full; nothing is lost, and work continues when there is room")
    if code.startswith(DAMAGED):
        return StoreError(f"the database is damaged ({cause}); {REPAIR}")
    return StoreError(f"the database cannot be used ({cause})")


def _pragmas(connection: sqlite3.Connection, record: object) -> None:
    connection.isolation_level = None  # transactions start in `_begin`, with the right to write from the start
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=10000"):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: sa.Connection) -> None:
    connection.exec_driver_sql("BEGIN" if connection.get_execution_options().get(SNAPSHOT) else "BEGIN IMMEDIATE")
