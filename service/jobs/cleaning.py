"""Files of ended and deleted jobs are removed here: at once where that succeeds, else again until it does."""

import asyncio
import logging
import time
from collections.abc import Callable

from upres.engine.core.errors import TargetError
from upres.service.domain.errors import StoreError
from upres.service.storage.cleanups import Cleanup, What
from upres.service.storage.job_store import Store
from upres.service.storage.results import Results, keys

from .kept.here import Here

CHECK_SECONDS = 60.0
SETTLED_SECONDS = 60.0  # after which no other server's attempt still writes what is due
AGAIN_SECONDS = 300.0  # between two tries where the result store is away

logger = logging.getLogger(__name__)


class Cleaner:
    """keeper: of the jobs' folders, and what is kept of them elsewhere. writing: whether files of a job may still be made.

    What is removed of such a job is removed again later, so that nothing is left however the attempt, or the server, ends.
    """

    def __init__(self, keeper: Here, store: Store, results: Results, writing: Callable[[str], bool]) -> None:
        self._keeper = keeper
        self._store = store
        self._results = results
        self._writing = writing

    async def run(self) -> None:
        """Work off what is due, for as long as this task lives."""
        while True:
            await self._work_off()
            await asyncio.sleep(CHECK_SECONDS)

    async def source(self, request_id: str) -> None:
        """Remove the source and the joined file of a job that has ended."""
        await self._remove(Cleanup(request_id, What.SOURCE, "", 0.0))

    async def folder(self, request_id: str) -> None:
        """Remove the folder of a live job that has ended."""
        await self._remove(Cleanup(request_id, What.FOLDER, "", 0.0))

    async def result(self, request_id: str, result_prefix: str) -> None:
        """Remove what was stored of a job that has ended in error."""
        await self._remove(Cleanup(request_id, What.RESULT, result_prefix, 0.0))

    async def everything(self, request_id: str, result_prefix: str) -> None:
        """Remove all files of a job that was deleted; later again, where a server that had it may be storing some just now."""
        late = self._keeper.apart and self._store.server is not None
        await self._remove(Cleanup(request_id, What.EVERYTHING, result_prefix, 0.0), again=late)

    async def _work_off(self) -> None:
        """Remove what is due, until nothing is or the database cannot be used."""
        try:
            settled = 0.0 if self._store.server is None else SETTLED_SECONDS
            while cleanups := await asyncio.to_thread(self._store.cleanups.due, time.time() - settled):
                for cleanup in cleanups:
                    if not await self._remove(cleanup):
                        return
        except StoreError:  # a full disk, a locked database: it may pass
            logger.exception("what is to be removed cannot be read; trying again later")

    async def _remove(self, cleanup: Cleanup, *, again: bool = False) -> bool:
        """Remove, then strike out; what fails, or may be there again, is a row and tried again. False where no row changes."""
        try:
            if await self._is_gone(cleanup) and not again:
                await asyncio.to_thread(self._store.cleanups.done, cleanup.request_id, cleanup.what)
            else:
                await asyncio.to_thread(self._store.cleanups.postpone, cleanup, time.time() + AGAIN_SECONDS)
        except StoreError:
            logger.exception("what became of files of %s cannot be noted yet", cleanup.request_id)
            return False
        return True

    async def _is_gone(self, cleanup: Cleanup) -> bool:
        """Remove files, and return whether they stay removed."""
        writing = self._writing(cleanup.request_id)  # before: what ends in between is not seen by this removal
        try:
            await asyncio.to_thread(self._remove_files, cleanup)
            if cleanup.what in (What.RESULT, What.EVERYTHING):
                await self._results.remove(*keys(cleanup.result_prefix, cleanup.request_id))
            await self._keeper.clear(cleanup)
        except (TargetError, OSError) as error:
            logger.warning("files of %s cannot be removed yet: %s", cleanup.request_id, error)
            return False
        return not writing

    def _remove_files(self, cleanup: Cleanup) -> None:
        folder = self._keeper.folder(cleanup.request_id)
        match cleanup.what:
            case What.SOURCE:
                folder.spend()
            case What.LOG if (
                self._results.remote or self._keeper.apart
            ):  # else the result is on the same disk, and as large
                folder.remove_log()
            case What.FOLDER | What.EVERYTHING:
                folder.remove()
