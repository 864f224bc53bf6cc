"""The database of one server: opened, brought to this version's tables, written one transaction at a time, read at any time.

SQLite by default (WAL, synchronous=FULL: what was committed survives a power cut), or PostgreSQL; what is particular to either
stands in `dialects`. `in_memory` is the twin for tests: the same code on a database that lives as long as the object.
"""

import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager
from typing import Self

import sqlalchemy as sa

from upres.service.domain.errors import StoreError

from .agreed_store import agree
from .dialects import BUSY_NOW, MEMORY, SNAPSHOT, local_address, notices, open_engine, translated
from .lease import Holder, Lease, Servers, seen
from .revisions import upgrade
from .schema import meta

DOUBT_SECONDS = 5.0  # that a server looks whether its transaction stands: less than a lease lasts
AGAIN_SECONDS = 0.2


class Database:
    """Safe to use from several threads. Raises StoreError where it cannot be opened, is damaged, or is of a newer version."""

    def __init__(self, url: str) -> None:
        self._memory = url == MEMORY
        self._engine = open_engine(url)
        self._aside = self._engine.execution_options(
            **{SNAPSHOT: True}
        )  # the same connections, without a turn to write
        self._apart = self._engine if self._memory else open_engine(url, hasty=True)  # connects when it is used
        self._lock = threading.RLock()
        self._lease: Lease | None = None
        try:
            with self.transaction() as connection:
                upgrade(connection)
        except StoreError as error:
            self.close()
            raise StoreError(f"{self._engine.url.set(query={}).render_as_string()}: {error}") from error

    @classmethod
    def in_memory(cls) -> Self:
        """Open a database that lives as long as the object."""
        return cls(MEMORY)

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()
        self._apart.dispose()

    @contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """Commit all that is done inside as one, or nothing. One at a time. Raises StoreError, DiskFullError, TakenOverError.

        Of several servers one whose COMMIT is not answered looks whether that stands, and raises nothing where it does. So after a
        StoreError nothing was done, unless the database was away for some seconds, too.
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
                if not (done and self._stands(done)):
                    raise

    def _stands(self, number: int) -> bool:
        """Look whether a transaction of this server was committed, as soon as the database answers. Raises DBAPIError."""
        assert self._lease is not None
        limit = time.monotonic() + DOUBT_SECONDS
        while True:
            try:
                with self._engine.begin() as connection:  # in turn, so that the other one has ended
                    return self._lease.has_written(connection, number)
            except sa.exc.DBAPIError:
                if time.monotonic() > limit:
                    raise
                time.sleep(AGAIN_SECONDS)

    @property
    def server(self) -> str | None:
        """Give the id of this server among those that work on this database's jobs; None where it is the only one that can."""
        return None if self._lease is None else self._lease.holder

    @property
    def leads(self) -> bool:
        """Report whether this server does what only one of this database's may."""
        return self._lease is None or self._lease.leads

    def take(self, lease: Lease, *, late: bool = False) -> Holder | None:
        """Take a lease, without which nothing is written from then on; give who holds it, where another server does.

        late: the place of one that leads, and has been late for long enough, is taken.
        """
        with self.transaction() as connection:
            taken = lease.take(connection, late=late)
        if isinstance(taken, Holder):
            return taken
        lease.term = taken  # now that it is committed: what renews it meanwhile looks at this, too
        self._lease = lease
        return None

    def keep_jobs_in(self, url: str | None) -> None:
        """Check that a server that shares the database with none keeps jobs where they were kept before; see `agree`."""
        with self.transaction() as connection:
            agree(connection, url)

    def servers(self) -> Servers:
        """Look which servers work on this database's jobs."""
        with self.snapshot() as connection:
            return seen(connection)

    def renew(self, lease: Lease) -> None:
        """Hold a lease for longer; raises TakenOverError. Nothing else that the database is asked for holds it up."""
        with self._translated(), self._apart.begin() as connection:
            lease.renew(connection)

    def give_up(self, lease: Lease) -> None:
        """Give a lease up, if it is still held."""
        with self._translated(), self._apart.begin() as connection:
            lease.give_up(connection)

    def notices(self) -> AsyncGenerator[str]:
        """Yield an empty text now, and then which job has changed, until the connection is lost. Raises StoreError."""
        return notices(self._engine)

    def own_address(self) -> str | None:
        """Give the address that this machine reaches PostgreSQL from; None where that is without a network. Raises StoreError."""
        with self.snapshot() as connection:
            return local_address(connection)

    @contextmanager
    def aside(self) -> Iterator[sa.Connection]:
        """Commit what no job depends on, without a turn: nothing else waits for it. Raises StoreError."""
        with self._translated(), self._aside.begin() as connection:
            yield connection

    @contextmanager
    def snapshot(self) -> Iterator[sa.Connection]:
        """Read what was committed by now; waits for no transaction. Raises StoreError."""
        if self._memory:  # it has one connection only
            with self.transaction() as connection:
                yield connection
            return
        with self.aside() as connection:
            yield connection

    def meta(self, name: str, default: Callable[[], str]) -> str:
        """Give a value that is kept for good, made by `default` when it is first asked for."""
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
