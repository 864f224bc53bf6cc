"""The database of one server: opened, made where it is new, and written one transaction at a time.

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

from upres.service.domain.errors import StoreError

from .schema import VERSION, meta, metadata


class Database:
    """Safe to use from several threads. Raises StoreError where it is of another version, or cannot be opened."""

    def __init__(self, url: str) -> None:
        memory = url == "sqlite://"
        options: dict[str, Any] = (
            {"poolclass": StaticPool, "connect_args": {"check_same_thread": False}} if memory else {}
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
            sa.event.listen(self._engine, "begin", _begin_immediate)
        try:
            self._create()
        except sa.exc.OperationalError as error:
            raise StoreError(
                f"the database {self._engine.url.render_as_string()} cannot be opened ({error.orig})"
            ) from error

    @classmethod
    def in_memory(cls) -> Self:
        """A database that lives as long as the object."""
        return cls("sqlite://")

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    @contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """All that is done inside is committed as one, or not at all. One at a time."""
        with self._lock, self._engine.begin() as connection:
            yield connection

    def meta(self, name: str, default: Callable[[], str]) -> str:
        """A value kept for good, made by `default` when it is first asked for."""
        with self.transaction() as connection:
            found = connection.scalar(sa.select(meta.c.value).where(meta.c.name == name))
            if found is None:
                found = default()
                connection.execute(meta.insert().values(name=name, value=found))
            return str(found)

    def _create(self) -> None:
        with self.transaction() as connection:
            metadata.create_all(connection)
            found = connection.scalar(sa.select(meta.c.value).where(meta.c.name == "version"))
            if found is None:
                connection.execute(meta.insert().values(name="version", value=str(VERSION)))
            elif found != str(VERSION):
                raise StoreError(
                    f"the database has schema version {found}, this upres knows {VERSION}; use the other one"
                )


def _pragmas(connection: sqlite3.Connection, record: object) -> None:
    connection.isolation_level = None  # transactions begin below, at once with the right to write
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=10000"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_immediate(connection: sa.Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
