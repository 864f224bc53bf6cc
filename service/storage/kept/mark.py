"""Recognition of the object store: an object in it whose name the database has.

Two servers may name the same store and still use different ones, with another endpoint or account, or if the shared folder is not
mounted on one machine.
"""

import asyncio
import secrets

from upres.engine.core.errors import TargetError
from upres.service.domain.errors import NotFoundError, UnavailableError
from upres.service.storage.agreed_store import MARK
from upres.service.storage.database import Database
from upres.service.storage.results import Results

TEXT = b"By this object the servers of a database recognize the store of their jobs.\n"


async def check_mark(objects: Results, database: Database, prefix: str) -> None:
    """Check that a store is the one that the database's first server used; if this is the first one, mark it.

    Raises TargetError if it is another one, or does not respond.
    """
    try:
        mark = await asyncio.to_thread(database.meta, MARK, _missing)
    except LookupError:
        mark = secrets.token_hex(8)
        await objects.write(prefix + mark, lambda: iter([TEXT]), len(TEXT))
        mark = await asyncio.to_thread(database.meta, MARK, lambda: mark)  # another server may have been first
    try:
        await objects.size(prefix + mark)
    except NotFoundError as error:
        raise TargetError(
            f"the object store is not the one that has the jobs of this database: the object {prefix}{mark} is missing. Check that"
            " UPRES_STORE, its endpoint and its account are the same at all servers, and that a folder is mounted; if only the"
            " object was deleted, create one with that name"
        ) from error
    except UnavailableError as error:
        raise TargetError(str(error)) from error


def _missing() -> str:
    raise LookupError
