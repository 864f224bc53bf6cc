"""What is particular to one kind of database: how it is opened, how a transaction begins, and what its errors mean."""

import os
import socket
import sqlite3
from collections.abc import AsyncGenerator
from typing import Any

import sqlalchemy as sa
from sqlalchemy.pool import StaticPool

from upres.service.domain.errors import DiskFullError, StoreError

READERS = 16  # connections that are kept open; as many again are opened when needed
SNAPSHOT = "upres_snapshot"  # the execution option of a connection that only reads
MEMORY = "sqlite://"

CHANNEL = "upres_jobs"  # on which PostgreSQL tells all servers of a database which job has changed
WRITERS = 0x75707265  # the lock by which those who write into a PostgreSQL database take turns, as in SQLite
# A server that vanishes inside a transaction holds up the others for less than a lease lasts.
TIMEOUTS = "statement_timeout=30s", "lock_timeout=10s", "idle_in_transaction_session_timeout=8s"
KEEPALIVE = {"keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3, "tcp_user_timeout": 10_000}
# What renews a lease tries again in time, whatever one try meets.
HASTY_TIMEOUTS = "statement_timeout=3s", "lock_timeout=3s", "idle_in_transaction_session_timeout=3s"
HASTY = {"connect_timeout": 3, "tcp_user_timeout": 3000}

FULL = ("SQLITE_FULL", "53100")  # sqlite3's name and PostgreSQL's SQLSTATE of a disk that is full
MISTAKE = "SQLITE_ERROR"  # a statement that does not fit the tables: a fault of ours, not of the disk
MISTAKES = (sa.exc.IntegrityError, sa.exc.ProgrammingError, sa.exc.DataError, sa.exc.NotSupportedError)
DAMAGED = ("SQLITE_CORRUPT", "SQLITE_NOTADB", "XX001", "XX002")
# A lock or a statement took too long, connections ran out.
BUSY = ("SQLITE_BUSY", "55P03", "57014", "40001", "40P01", "53300")
FORBIDDEN = "42501"
REPAIRS = {
    "sqlite": "stop the server, and restore a backup, or save what can be read: sqlite3 DAMAGED .recover | sqlite3 NEW",
    "postgresql": "stop the server, and restore a backup",
}
BUSY_NOW = "the database is busy; try again"
KINDS = "sqlite:///FILE, or postgresql://USER:PASSWORD@HOST/DATABASE"


def open_engine(text: str, *, hasty: bool = False) -> sa.Engine:
    """Make what opens connections to a database by its URL; StoreError where it is of another kind, or a package is missing.

    hasty: its one connection waits for nothing long, and not for a turn to write either (PostgreSQL).
    """
    try:
        url = sa.make_url(text)
        kind = url.get_backend_name()
        if kind == "postgresql":
            return _postgres(url.set(drivername="postgresql+psycopg"), hasty=hasty)
        if kind == "sqlite":
            return _sqlite(url)
    except ModuleNotFoundError as error:
        raise StoreError("PostgreSQL needs one package more: pip install 'upres[postgres]'") from error
    except (sa.exc.ArgumentError, ImportError) as error:
        raise StoreError(f"the setting `database` is no URL of a database that can be used here ({error})") from error
    raise StoreError(f"the setting `database` names a {kind} database, which cannot be used; it is {KINDS}")


def _sqlite(url: sa.URL) -> sa.Engine:
    options: dict[str, Any] = {"pool_size": READERS, "max_overflow": READERS}
    if url.render_as_string() == MEMORY:
        options = {"poolclass": StaticPool, "connect_args": {"check_same_thread": False}}
    engine = sa.create_engine(url, **options)
    sa.event.listen(engine, "connect", _pragmas)
    sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def _postgres(url: sa.URL, *, hasty: bool) -> sa.Engine:
    """Replace a connection that was lost while nobody used it, and let the server end what waits there for too long."""
    connect = _limits(url, hasty=hasty)
    size = {"pool_size": 1, "max_overflow": 0} if hasty else {"pool_size": READERS, "max_overflow": READERS}
    engine = sa.create_engine(url, **size, pool_pre_ping=True, connect_args=connect)
    if not hasty:
        sa.event.listen(engine, "begin", _begin_postgres)
    return engine


def _limits(url: sa.URL, *, hasty: bool = False) -> dict[str, Any]:
    """Give the limits that keep a connection from hanging, but for what the URL says itself."""
    ours = {
        "connect_timeout": 10,
        "application_name": "upres",
        "options": " ".join(f"-c {timeout}" for timeout in (HASTY_TIMEOUTS if hasty else TIMEOUTS)),
        **KEEPALIVE,
        **(HASTY if hasty else {}),
    }
    return {name: value for name, value in ours.items() if name not in url.query}


def _pragmas(connection: sqlite3.Connection, record: object) -> None:
    connection.isolation_level = None  # transactions start in `_begin_sqlite`, with the right to write from the start
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=10000"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: sa.Connection) -> None:
    connection.exec_driver_sql("BEGIN" if connection.get_execution_options().get(SNAPSHOT) else "BEGIN IMMEDIATE")


def _begin_postgres(connection: sa.Connection) -> None:
    """Wait for one's turn: so no transaction deadlocks, and rows become visible in the order of their numbers and cursors."""
    if not connection.get_execution_options().get(SNAPSHOT):
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(WRITERS)))


def clock() -> sa.ColumnElement[float]:
    """Give the time by PostgreSQL's clock, in Unix seconds."""
    return sa.cast(sa.func.extract("epoch", sa.func.clock_timestamp()), sa.Float)


def notify(connection: sa.Connection, request_id: str) -> None:
    """Tell every server of a PostgreSQL database that a job has changed, once the transaction that is open is committed."""
    connection.execute(sa.select(sa.func.pg_notify(CHANNEL, request_id)))


async def notices(engine: sa.Engine) -> AsyncGenerator[str]:
    """Yield an empty text now, and then which job has changed, until the connection is lost. Raises StoreError."""
    import psycopg  # imported here: who has SQLite has not got it

    # Not as a URL, which an error may quote with its password.
    _, named = engine.dialect.create_connect_args(engine.url)
    named.update(_limits(engine.url))
    try:
        async with await psycopg.AsyncConnection.connect(autocommit=True, **named) as connection:
            await connection.execute(f"LISTEN {CHANNEL}")
            yield ""
            async for notice in connection.notifies():
                yield notice.payload
    except psycopg.Error as error:
        raise StoreError(f"changes of jobs are not heard of as they happen ({' '.join(str(error).split())})") from error


def local_address(connection: sa.Connection) -> str | None:
    """Give this end's address of a connection to PostgreSQL; None where it is no address of a network."""
    with socket.socket(fileno=os.dup(connection.connection.dbapi_connection.fileno())) as copy:  # type: ignore[union-attr]  # psycopg's
        return str(copy.getsockname()[0]) if copy.family in (socket.AF_INET, socket.AF_INET6) else None


def translated(error: sa.exc.DBAPIError, dialect: str) -> Exception:
    """Give what is raised in place of a driver's error: a StoreError, or the error itself where it is a fault of ours."""
    cause = error.orig
    code = str(getattr(cause, "sqlite_errorname", None) or getattr(cause, "sqlstate", None) or "")
    what = " ".join(str(cause).split())
    if code == FORBIDDEN:
        return StoreError(f"the database's user may not do this ({what}); make it the owner of the tables")
    if code == MISTAKE or isinstance(error, MISTAKES):
        return error
    if code.startswith(FULL):
        return DiskFullError("the disk of the database is full; nothing is lost, and work continues when there is room")
    if code.startswith(DAMAGED):
        return StoreError(f"the database is damaged ({what}); {REPAIRS[dialect]}")
    return StoreError(BUSY_NOW if code.startswith(BUSY) else f"the database cannot be used ({what})")
