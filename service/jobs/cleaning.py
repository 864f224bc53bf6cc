"""Removal of the files of ended and deleted jobs: immediately if possible, otherwise retried until it succeeds."""

import asyncio
import logging
import time
from collections.abc import Callable

from upres.engine.core.errors import TargetError
from upres.service.domain.errors import StoreError
from upres.service.storage.cleanups import Cleanup, JobFiles
from upres.service.storage.job_store import Store
from upres.service.storage.results import Results, keys

from .kept.local_keeper import LocalKeeper

CHECK_SECONDS = 60.0  # between two reads of the cleanups that are due
FOLDERS_SECONDS = 600.0  # between two checks for job folders that this machine no longer needs
SETTLED_SECONDS = 60.0  # after which no other server's attempt still writes files that are due for removal
RETRY_SECONDS = 300.0  # between two attempts while the result store is unavailable

logger = logging.getLogger(__name__)


class Cleaner:
    """Removes files of jobs from their folders, the result store and the object store.

    keeper: storage of the jobs' sources and logs. writing: reports whether files of a job may still be written.
    Files of such a job are removed a second time later, so that nothing is left however its attempt or the server ends.
    """

    def __init__(self, keeper: LocalKeeper, store: Store, results: Results, writing: Callable[[str], bool]) -> None:
        self._keeper = keeper
        self._store = store
        self._results = results
        self._writing = writing

    async def run(self) -> None:
        """Periodically process the cleanups that are due; runs until cancelled."""
        while True:
            await self._process_due()
            await asyncio.sleep(CHECK_SECONDS)

    async def keep_folders_tidy(self, is_used: Callable[[str], bool]) -> None:
        """Periodically remove job folders that this machine no longer needs; runs until cancelled.

        is_used: reports whether this server works on a job.
        """
        while True:
            try:
                await self._keeper.tidy(is_used)
            except (StoreError, OSError) as error:
                logger.warning("job folders cannot be cleaned up now; retrying later: %s", error)
            await asyncio.sleep(FOLDERS_SECONDS)

    async def remove_source(self, request_id: str) -> None:
        """Remove the source and the joined file of a job that has ended."""
        await self._remove(Cleanup(request_id, JobFiles.SOURCE, "", 0.0))

    async def remove_folder(self, request_id: str) -> None:
        """Remove the folder of a live job that has ended."""
        await self._remove(Cleanup(request_id, JobFiles.FOLDER, "", 0.0))

    async def remove_result(self, request_id: str, result_prefix: str) -> None:
        """Remove the stored result of a job that has ended in error."""
        await self._remove(Cleanup(request_id, JobFiles.RESULT, result_prefix, 0.0))

    async def remove_everything(self, request_id: str, result_prefix: str) -> None:
        """Remove all files of a deleted job; also a second time later, if another server may still be storing some."""
        late = self._keeper.uses_object_store and self._store.server is not None
        await self._remove(Cleanup(request_id, JobFiles.EVERYTHING, result_prefix, 0.0), again=late)

    async def _process_due(self) -> None:
        """Process the cleanups that are due, until none is left or the database cannot be used."""
        try:
            settled = 0.0 if self._store.server is None else SETTLED_SECONDS
            while cleanups := await asyncio.to_thread(self._store.cleanups.due, time.time() - settled):
                for cleanup in cleanups:
                    if not await self._remove(cleanup):
                        return
        except StoreError:  # a full disk or a locked database may be temporary
            logger.exception("due cleanups cannot be read; retrying later")

    async def _remove(self, cleanup: Cleanup, *, again: bool = False) -> bool:
        """Remove files, then delete the cleanup's row; postpone it if files are left, may reappear, or `again` is set.

        Returns False if the row cannot be changed.
        """
        try:
            if await self._remove_completely(cleanup) and not again:
                await self._store.write(self._store.cleanups.done, cleanup.request_id, cleanup.what)
            else:
                await self._store.write(self._store.cleanups.postpone, cleanup, time.time() + RETRY_SECONDS)
        except StoreError:
            logger.exception("the cleanup of %s cannot be updated yet", cleanup.request_id)
            return False
        return True

    async def _remove_completely(self, cleanup: Cleanup) -> bool:
        """Remove files; report whether all are removed and none can reappear."""
        writing = self._writing(cleanup.request_id)  # read first: an attempt that ends meanwhile may have written files
        try:
            await asyncio.to_thread(self._remove_files, cleanup)
            if cleanup.what in (JobFiles.RESULT, JobFiles.EVERYTHING):
                await self._results.remove(*keys(cleanup.result_prefix, cleanup.request_id))
            await self._keeper.clear(cleanup)
        except (TargetError, OSError) as error:
            logger.warning("files of %s cannot be removed yet: %s", cleanup.request_id, error)
            return False
        return not writing

    def _remove_files(self, cleanup: Cleanup) -> None:
        folder = self._keeper.folder(cleanup.request_id)
        match cleanup.what:
            case JobFiles.SOURCE:
                folder.remove_media()
            case JobFiles.LOG if self._results.remote or self._keeper.uses_object_store:
                folder.remove_log()  # otherwise the log stays: it is on the same disk as the result, and about as large
            case JobFiles.FOLDER | JobFiles.EVERYTHING:
                folder.remove()
