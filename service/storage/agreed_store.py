"""Agreement of a database's servers on the object store for jobs: all use the same store, or none does."""

from urllib.parse import urlsplit

import sqlalchemy as sa

from upres.engine.core.text import counted
from upres.service.domain.errors import OtherStoreError

from .dialects import clock
from .schema import jobs, leases, meta, unfinished

STORE = "store"  # name in `meta`: the store's URL; missing while jobs are kept in folders
MARK = "store_mark"  # name in `meta`: the object by which that store is recognized


def agree(connection: sa.Connection, url: str | None, holder: str | None = None) -> None:
    """Check that a server uses the same object store as the database's other servers. holder: the id of its lease.

    The first server with a store sets it for all, and deletes the expired leases. This must be called in each transaction that
    acquires a lease, so that no server starts in between. url: None for a server without a store. Raises OtherStoreError.
    """
    own = None if url is None else urlsplit(url)._replace(query="", fragment="").geturl().rstrip("/")
    agreed = connection.scalar(sa.select(meta.c.value).where(meta.c.name == STORE))
    if agreed is None and own is not None:
        _check_unused(connection, holder)
        connection.execute(leases.delete().where(leases.c.holder.is_distinct_from(holder)))
        connection.execute(meta.delete().where(meta.c.name == MARK))  # of a store that was used before
        connection.execute(meta.insert().values(name=STORE, value=own))
    elif agreed is not None and agreed.rstrip("/") != own:
        raise OtherStoreError(
            f"the jobs of this database are kept in {agreed}: set UPRES_STORE to that at all its servers; to keep them elsewhere,"
            f" let all end, stop the servers, and delete the row {STORE} of the table meta"
        )


def _check_unused(connection: sa.Connection, holder: str | None) -> None:
    """Raise OtherStoreError while a server without a store runs, or while unfinished jobs have their sources only on its disk."""
    others = sa.select(leases.c.server).where(leases.c.holder.is_distinct_from(holder))
    if connection.scalar(others) and (server := connection.scalar(others.where(leases.c.until > clock()))):
        raise OtherStoreError(
            f"{server} works on the jobs of this database without a store: stop every server, and start all of them with the same"
            " UPRES_STORE, or start this one without"
        )
    rows = connection.execute(sa.select(jobs.c.kept, jobs.c.spec).where(unfinished))
    if waiting := sum(not row.kept and not row.spec.get("live") for row in rows):
        raise OtherStoreError(
            f"{counted(waiting, 'job')} of this database {'has' if waiting == 1 else 'have'} not ended, and no store has"
            " their sources: start without UPRES_STORE until all have ended, stop every server, and begin with it then"
        )
