"""Differences between SQLite and PostgreSQL: connecting, starting transactions, notifications, and errors."""

import os
import socket
import sqlite3
from collections.abc import AsyncGenerator
from typing import Any

import sqlalchemy as sa
from sqlalchemy.pool import StaticPool

from upres.service.domain.errors import DiskFullError, StoreError

READERS = 16  # connections that are kept open; up to as many more are opened when needed
SNAPSHOT = "upres_snapshot"  # execution option of a connection whose transactions are not serialized
MEMORY = "sqlite://"

CHANNEL = "upres_jobs"  # PostgreSQL notification channel for changed jobs
WRITERS = 0x75707265  # advisory lock that serializes write transactions in PostgreSQL, as SQLite does itself
# A server that vanishes within a transaction blocks the others for less time than a lease lasts.
TIMEOUTS = "statement_timeout=30s", "lock_timeout=10s", "idle_in_transaction_session_timeout=8s"
KEEPALIVE = {"keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3, "tcp_user_timeout": 10_000}
# Short timeouts, so that a lease renewal can be retried before the lease expires.
HASTY_TIMEOUTS = "statement_timeout=3s", "lock_timeout=3s", "idle_in_transaction_session_timeout=3s"
HASTY = {"connect_timeout": 3, "tcp_user_timeout": 3000}

FULL = ("SQLITE_FULL", "53100")  # sqlite3's name and PostgreSQL's SQLSTATE for a full disk
MISTAKE = "SQLITE_ERROR"  # a statement that does not fit the tables: a programming error, not a fault of the disk
MISTAKES = (sa.exc.IntegrityError, sa.exc.ProgrammingError, sa.exc.DataError, sa.exc.NotSupportedError)
DAMAGED = ("SQLITE_CORRUPT", "SQLITE_NOTADB", "XX001", "XX002")
# A lock or a statement timed out, or connections ran out.
BUSY = ("SQLITE_BUSY", "55P03", "57014", "40001", "40P01", "53300")
FORBIDDEN = "42501"
REPAIRS = {
    "sqlite": "stop the server, and restore a backup, or save what can be read: sqlite3 DAMAGED .recover | sqlite3 NEW",
    "postgresql": "stop the server, and restore a backup",
}
BUSY_NOW = "the database is busy; try again"
KINDS = "sqlite:///FILE, or postgresql://USER:PASSWORD@HOST/DATABASE"


def open_engine(text: str, *, hasty: bool = False) -> sa.Engine:
    """Create the engine for a database URL. Raises StoreError for an unsupported kind or a missing package.

    hasty: with one connection, short timeouts, and without serialization (PostgreSQL).
    """
    try:
        url = sa.make_url(text)
        kind = url.get_backend_name()
        if kind == "postgresql":
            return _postgres(url.set(drivername="postgresql+psycopg"), hasty=hasty)
        if kind == "sqlite":
            return _sqlite(url)
    except ModuleNotFoundError as error:
        raise StoreError("PostgreSQL needs an additional package: pip install 'upres[postgres]'") from error
    except (sa.exc.ArgumentError, ImportError) as error:
        raise StoreError(f"the setting `database` is not the URL of a supported database ({error})") from error
    raise StoreError(f"the setting `database` names a {kind} database, which is not supported; expected {KINDS}")


def _sqlite(url: sa.URL) -> sa.Engine:
    options: dict[str, Any] = {"pool_size": READERS, "max_overflow": READERS}
    if url.render_as_string() == MEMORY:
        options = {"poolclass": StaticPool, "connect_args": {"check_same_thread": False}}
    engine = sa.create_engine(url, **options)
    sa.event.listen(engine, "connect", _pragmas)
    sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def _postgres(url: sa.URL, *, hasty: bool) -> sa.Engine:
    """Create an engine that replaces lost idle connections, with timeouts enforced by the PostgreSQL server."""
    connect = _limits(url, hasty=hasty)
    size = {"pool_size": 1, "max_overflow": 0} if hasty else {"pool_size": READERS, "max_overflow": READERS}
    engine = sa.create_engine(url, **size, pool_pre_ping=True, connect_args=connect)
    if not hasty:
        sa.event.listen(engine, "begin", _begin_postgres)
    return engine


def _limits(url: sa.URL, *, hasty: bool = False) -> dict[str, Any]:
    """Return connection arguments with timeouts, except those that the URL sets itself."""
    defaults = {
        "connect_timeout": 10,
        "application_name": "upres",
        "options": " ".join(f"-c {timeout}" for timeout in (HASTY_TIMEOUTS if hasty else TIMEOUTS)),
        **KEEPALIVE,
        **(HASTY if hasty else {}),
    }
    return {name: value for name, value in defaults.items() if name not in url.query}


def _pragmas(connection: sqlite3.Connection, record: object) -> None:
    connection.isolation_level = None  # transactions start in `_begin_sqlite`, with the write lock
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=10000"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: sa.Connection) -> None:
    connection.exec_driver_sql("BEGIN" if connection.get_execution_options().get(SNAPSHOT) else "BEGIN IMMEDIATE")


def _begin_postgres(connection: sa.Connection) -> None:
    """Acquire the writers' lock, so that no transaction deadlocks and rows become visible in the order of their numbers."""
    if not connection.get_execution_options().get(SNAPSHOT):
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(WRITERS)))


def clock() -> sa.ColumnElement[float]:
    """Return the time by PostgreSQL's clock, in Unix seconds."""
    return sa.cast(sa.func.extract("epoch", sa.func.clock_timestamp()), sa.Float)


def notify(connection: sa.Connection, request_id: str) -> None:
    """Notify all servers of a PostgreSQL database, when the open transaction commits, that a job has changed."""
    connection.execute(sa.select(sa.func.pg_notify(CHANNEL, request_id)))


async def notices(engine: sa.Engine) -> AsyncGenerator[str]:
    """Yield an empty string at once, then the request_id of each changed job, until the connection is lost. Raises StoreError."""
    import psycopg  # imported here: not installed when SQLite is used

    # Not as a URL, as an error message may quote it with its password.
    _, named = engine.dialect.create_connect_args(engine.url)
    named.update(_limits(engine.url))
    try:
        async with await psycopg.AsyncConnection.connect(autocommit=True, **named) as connection:
            await connection.execute(f"LISTEN {CHANNEL}")
            yield ""
            async for notice in connection.notifies():
                yield notice.payload
    except psycopg.Error as error:
        raise StoreError(f"notifications of changed jobs are unavailable ({' '.join(str(error).split())})") from error


def local_address(connection: sa.Connection) -> str | None:
    """Return the local address of a connection to PostgreSQL; None if it is not a network connection."""
    with socket.socket(fileno=os.dup(connection.connection.dbapi_connection.fileno())) as copy:  # type: ignore[union-attr]  # psycopg's
        return str(copy.getsockname()[0]) if copy.family in (socket.AF_INET, socket.AF_INET6) else None


def translated(error: sa.exc.DBAPIError, dialect: str) -> Exception:
    """Return the exception to raise for a driver's error: a StoreError, or the error itself if it is a programming error."""
    cause = error.orig
    code = str(getattr(cause, "sqlite_errorname", None) or getattr(cause, "sqlstate", None) or "")
    description = " ".join(str(cause).split())
    if code == FORBIDDEN:
        return StoreError(f"the database user lacks the permission ({description}); make it the owner of the tables")
    if code == MISTAKE or isinstance(error, MISTAKES):
        return error
    if code.startswith(FULL):
        return DiskFullError("the disk of the database is full; nothing is lost, and work continues once there is room")
    if code.startswith(DAMAGED):
        return StoreError(f"the database is damaged ({description}); {REPAIRS[dialect]}")
    return StoreError(BUSY_NOW if code.startswith(BUSY) else f"the database cannot be used ({description})")
