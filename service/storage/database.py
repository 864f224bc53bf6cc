"""Database of a server: opened and migrated, with serialized write transactions and concurrent reads.

SQLite by default (WAL, synchronous=FULL: committed data survives a power failure), or PostgreSQL; `dialects` has what differs
between them. `in_memory` is for tests: the same code on a database that lives as long as the object.
"""

import asyncio
import contextvars
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import ParamSpec, Self, TypeVar

import sqlalchemy as sa

from upres.service.domain.errors import StoreError

from .agreed_store import agree
from .dialects import BUSY_NOW, MEMORY, SNAPSHOT, local_address, notices, open_engine, translated
from .lease import Holder, Lease, Servers, read_servers
from .revisions import upgrade
from .schema import meta

DOUBT_SECONDS = 5.0  # how long a server checks whether its transaction was committed: less than a lease lasts
RETRY_SECONDS = 0.2
WRITERS = 2  # threads for changes: one waits for the lock while another one completes
TURN_SECONDS = 10.0  # how long a change may wait for those before it

P = ParamSpec("P")
T = TypeVar("T")


class Database:
    """A database; thread-safe. Raises StoreError if it cannot be opened, is damaged, or was created by a newer version."""

    def __init__(self, url: str) -> None:
        self._memory = url == MEMORY
        self._engine = open_engine(url)
        self._unserialized_engine = self._engine.execution_options(**{SNAPSHOT: True})  # with the same connections
        self._lease_engine = self._engine if self._memory else open_engine(url, hasty=True)  # connects on first use
        self._lock = threading.RLock()
        self._changes = ThreadPoolExecutor(WRITERS, "database")
        self._lease: Lease | None = None
        try:
            with self.transaction() as connection:
                upgrade(connection)
        except StoreError as error:
            self.close()
            raise StoreError(f"{self._engine.url.set(query={}).render_as_string()}: {error}") from error

    @classmethod
    def in_memory(cls) -> Self:
        """Open an in-memory database that lives as long as the object."""
        return cls(MEMORY)

    def close(self) -> None:
        """Close every connection."""
        self._changes.shutdown(wait=False)
        self._engine.dispose()
        self._lease_engine.dispose()

    @contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """Run the body as one transaction; transactions are serialized. Raises StoreError, DiskFullError, TakenOverError.

        With several servers, if the response to COMMIT is lost, check whether the transaction was committed, and raise nothing if
        it was. So a StoreError means that nothing was changed, unless the database stayed unavailable for DOUBT_SECONDS.
        """
        done = number = 0
        with self._lock, self._translated():
            try:
                with self._engine.begin() as connection:
                    if self._lease is not None:
                        number = self._lease.write(connection)
                    yield connection
                    done = number
            except sa.exc.DBAPIError:
                if not (done and self._was_committed(done)):
                    raise

    async def write(self, change: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
        """Call a function that runs write transactions, in a thread for these only, and return its result.

        While another process locks the database, no other thread waits for it, so that reads continue. Raises StoreError if the
        changes before this one take too long, and what the function raises.
        """
        latest = time.monotonic() + TURN_SECONDS

        def call_in_time() -> T:
            if time.monotonic() > latest:
                raise StoreError(BUSY_NOW)
            return change(*args, **options)

        context = contextvars.copy_context()  # as asyncio.to_thread does
        return await asyncio.get_running_loop().run_in_executor(self._changes, context.run, call_in_time)

    def _was_committed(self, number: int) -> bool:
        """Report whether a transaction of this server was committed, once the database responds. Raises DBAPIError."""
        assert self._lease is not None
        limit = time.monotonic() + DOUBT_SECONDS
        while True:
            try:
                with self._engine.begin() as connection:  # serialized, so the transaction in question has ended
                    return self._lease.has_written(connection, number)
            except sa.exc.DBAPIError:
                if time.monotonic() > limit:
                    raise
                time.sleep(RETRY_SECONDS)

    @property
    def server(self) -> str | None:
        """Return the id of this server among those of the database; None if it is the only server (without a lease)."""
        return None if self._lease is None else self._lease.holder

    @property
    def leads(self) -> bool:
        """Report whether this server is the leader, which does what only one server of a database may do."""
        return self._lease is None or self._lease.leads

    def acquire(self, lease: Lease, *, late: bool = False) -> Holder | None:
        """Acquire a lease, which every later write requires; return the current holder if another server holds it.

        late: replace a leader whose lease has expired.
        """
        with self.transaction() as connection:
            result = lease.acquire(connection, late=late)
        if isinstance(result, Holder):
            return result
        lease.term = result  # only after the commit, as a concurrent renewal reads it too
        self._lease = lease
        return None

    def keep_jobs_in(self, url: str | None) -> None:
        """Check that a server that shares the database with none keeps jobs where they were kept before; see `agree`."""
        with self.transaction() as connection:
            agree(connection, url)

    def servers(self) -> Servers:
        """Read which servers work on this database's jobs."""
        with self.snapshot() as connection:
            return read_servers(connection)

    def renew(self, lease: Lease) -> None:
        """Renew a lease. Uses its own connection, so that no other request delays it. Raises TakenOverError."""
        with self._translated(), self._lease_engine.begin() as connection:
            lease.renew(connection)

    def release(self, lease: Lease) -> None:
        """Release a lease, if it is still held."""
        with self._translated(), self._lease_engine.begin() as connection:
            lease.release(connection)

    def notices(self) -> AsyncGenerator[str]:
        """Yield an empty string, then the request_id of each changed job, until the connection is lost. Raises StoreError."""
        return notices(self._engine)

    def own_address(self) -> str | None:
        """Return this machine's address of its connection to PostgreSQL; None if that does not use a network. Raises StoreError."""
        with self.snapshot() as connection:
            return local_address(connection)

    @contextmanager
    def unserialized(self) -> Iterator[sa.Connection]:
        """Run a transaction that is not serialized with the others, for data that no job depends on. Raises StoreError."""
        with self._translated(), self._unserialized_engine.begin() as connection:
            yield connection

    @contextmanager
    def snapshot(self) -> Iterator[sa.Connection]:
        """Read committed data without waiting for write transactions. Raises StoreError."""
        if self._memory:  # an in-memory database has only one connection
            with self.transaction() as connection:
                yield connection
            return
        with self.unserialized() as connection:
            yield connection

    def meta(self, name: str, default: Callable[[], str]) -> str:
        """Return a permanent value, created by `default` when it is first read."""
        with self.transaction() as connection:
            value = connection.scalar(sa.select(meta.c.value).where(meta.c.name == name))
            if value is None:
                value = default()
                connection.execute(meta.insert().values(name=name, value=value))
            return str(value)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sa.exc.TimeoutError as error:
            raise StoreError(BUSY_NOW) from error
        except sa.exc.DBAPIError as error:
            better = translated(error, self._engine.dialect.name)
            if better is error:
                raise
            raise better from error
