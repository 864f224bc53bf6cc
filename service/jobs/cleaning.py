"""Files of ended and deleted jobs are removed here: at once where that succeeds, else again until it does."""

import asyncio
import logging
import time
from pathlib import Path

from upres.engine.core.errors import TargetError
from upres.service.domain.errors import StoreError
from upres.service.storage.cleanups import Cleanup, What
from upres.service.storage.job_folder import JobFolder
from upres.service.storage.job_store import Store
from upres.service.storage.results import Results, keys

CHECK_SECONDS = 60.0
AGAIN_SECONDS = 300.0  # between two tries where the result store is away

logger = logging.getLogger(__name__)


class Cleaner:
    """root: the folder of the jobs' folders."""

    def __init__(self, root: Path, store: Store, results: Results) -> None:
        self._root = root
        self._store = store
        self._results = results

    async def run(self) -> None:
        """Work off what is due, for as long as this task lives."""
        while True:
            while cleanups := await asyncio.to_thread(self._store.cleanups.due, time.time()):
                for cleanup in cleanups:
                    await self._remove(cleanup)
            await asyncio.sleep(CHECK_SECONDS)

    async def source(self, request_id: str) -> None:
        """Remove the source and the joined file of a job that has ended."""
        await self._remove(Cleanup(request_id, What.SOURCE, "", 0.0))

    async def everything(self, request_id: str, result_prefix: str) -> None:
        """Remove all files of a job that was deleted."""
        await self._remove(Cleanup(request_id, What.EVERYTHING, result_prefix, 0.0))

    async def _remove(self, cleanup: Cleanup) -> None:
        """Remove, then strike out; what fails stays a row and is tried again."""
        try:
            await asyncio.to_thread(self._remove_files, cleanup)
            if cleanup.what is What.EVERYTHING:
                await self._results.remove(*keys(cleanup.result_prefix, cleanup.request_id))
            await asyncio.to_thread(self._store.cleanups.done, cleanup.request_id, cleanup.what)
        except (TargetError, OSError) as error:
            logger.warning("files of %s cannot be removed yet: %s", cleanup.request_id, error)
            await asyncio.to_thread(self._store.cleanups.postpone, cleanup, time.time() + AGAIN_SECONDS)
        except StoreError:
            logger.exception("files of %s are removed, which cannot be noted yet", cleanup.request_id)

    def _remove_files(self, cleanup: Cleanup) -> None:
        folder = JobFolder(self._root / cleanup.request_id)
        match cleanup.what:
            case What.SOURCE:
                folder.spend()
            case What.LOG if (
                self._results.remote
            ):  # otherwise the result lies on the same disk, and the log is as large
                folder.remove_log()
            case What.EVERYTHING:
                folder.remove()
