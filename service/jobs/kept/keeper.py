"""Sources, logs and unmerged ranges of jobs in an object store.

An attempt works in the job's folder on this machine, as it does without an object store. Complete parts of the source and records
of the log and of its ranges are uploaded as soon as they are written. A server that takes over a job downloads them before an
attempt starts.
"""

import asyncio
import logging
import shutil
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from upres.engine.core.text import counted
from upres.service.domain.errors import LostError, NotFoundError, UnavailableError
from upres.service.domain.request_id import is_id
from upres.service.jobs.change_events import Ledger
from upres.service.storage.cleanups import Cleanup, JobFiles
from upres.service.storage.job_store import LOG_SECONDS, Job
from upres.service.storage.kept import object_keys
from upres.service.storage.kept.copies import read_generation
from upres.service.storage.kept.downloads import download_log, download_partial_source, download_source
from upres.service.storage.kept.mark import check_mark
from upres.service.storage.kept.object_keys import Generations
from upres.service.storage.results import Results

from .local_keeper import LocalKeeper
from .logs import KeptLogs
from .reader import KeptLog
from .sources import KeptSources

FOLDER_IN_USE = "an attempt that has not ended yet holds its folder"
SOURCE_NOT_IN_STORE = "its source was sent to a server without UPRES_STORE, and is only on the disk of that server"
CLEARED = {  # ranges a second time with the log: a server that lost the job may have stored some after its end
    JobFiles.SOURCE: (object_keys.source, object_keys.ranges),
    JobFiles.LOG: (object_keys.log, object_keys.ranges),
    JobFiles.FOLDER: (object_keys.job,),
    JobFiles.EVERYTHING: (object_keys.job,),
}
REMOVED_PREFIX = "."  # of the name of a folder that is being removed

logger = logging.getLogger(__name__)


class Keeper(LocalKeeper):
    """Uploads sources and logs of jobs to an object store, and downloads them. objects: the store."""

    uses_object_store = True

    def __init__(self, root: Path, ledger: Ledger, objects: Results) -> None:
        super().__init__(root)
        self._ledger = ledger
        self._objects = objects
        self._prefix = ledger.store.result_prefix
        self._sources = KeptSources(root, objects, self._prefix)
        self._logs = KeptLogs(ledger, root, objects, self._prefix)
        self._tidy_lock = asyncio.Lock()  # held while a folder is checked for a job's files, or removed

    def log(self, request_id: str) -> KeptLog:
        """Open a reader of a job's log, in its folder or in the store."""
        key_prefix = object_keys.log(self._prefix, request_id)
        return KeptLog(self.folder(request_id).log, self._objects, key_prefix, self._is_current)

    async def check(self) -> None:
        """Raise TargetError if the store does not respond, or is not the one that other servers of the database use."""
        await check_mark(self._objects, self._ledger.store, self._prefix)

    def on_source_bytes(self, request_id: str) -> None:
        """Schedule the upload of bytes of a source that were received, within a second or two."""
        self._sources.on_bytes(request_id)

    async def admit(self, request_id: str) -> None:
        """Wait while the upload of a source lags too far behind what was received. Raises UnavailableError."""
        await self._sources.admit(request_id)

    def stored(self, request_id: str) -> int:
        """Return how many bytes of an arriving source are in the store."""
        return self._sources.stored(request_id)

    async def finish_source(self, request_id: str) -> dict[str, Any]:
        """Upload the rest of a complete source; return what its job's row records about it. Raises UnavailableError."""
        return await self._sources.finish(request_id)

    def forget_source(self, request_id: str) -> None:
        """Stop uploading a source."""
        self._sources.forget(request_id)

    async def has(self, job: Job) -> bool:
        """Report whether an attempt can start without a download: the source as received, and the current log, are local."""
        async with self._tidy_lock:
            return await asyncio.to_thread(lambda: self._has_source(job) and self._is_current(job))

    def _has_source(self, job: Job) -> bool:
        folder, source = self.folder(job.request_id), job.kept.get("source")
        if source is None:  # it is still being received here, or was received before a store was configured
            return not job.source_complete or folder.is_source_complete
        return folder.is_source_complete and folder.source_bytes == int(source["bytes"])

    def _is_current(self, job: Job) -> bool:
        """Report whether the local log is the generation that the job continues, or the job has no stored log."""
        kept = object_keys.generations(job.kept.get("log", ()))
        return not kept or read_generation(self.folder(job.request_id).log) == kept[-1][0]

    async def download(self, job: Job) -> None:
        """Download the source and the log that an attempt needs.

        Raises UnavailableError if they are unavailable now, LostError if they are missing, OSError if they cannot be written to the
        local disk, StoreError, TransitionError.
        """
        folder = self.folder(job.request_id)
        folder.path.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(folder.lock, timeout=0, thread_local=False):
                if not await asyncio.to_thread(self._has_source, job):
                    key_prefix, source = object_keys.source(self._prefix, job.request_id), job.kept.get("source")
                    if source is None:
                        raise LostError(SOURCE_NOT_IN_STORE)
                    await download_source(
                        self._objects, key_prefix, folder, int(source["bytes"]), int(source["crc32c"])
                    )
                if not await asyncio.to_thread(self._is_current, job):
                    await self._download_log(job)
        except Timeout as error:
            raise UnavailableError(FOLDER_IN_USE) from error

    async def _download_log(self, job: Job) -> None:
        folder, kept = self.folder(job.request_id), object_keys.generations(job.kept["log"])

        async def begin(generations: Generations) -> None:
            await self._ledger.change(job.request_id, kept={"log": generations})

        prefixes = (object_keys.log(self._prefix, job.request_id), object_keys.ranges(self._prefix, job.request_id))
        end, ranges = await download_log(self._objects, *prefixes, folder.log, kept, begin)
        logger.info(
            "downloaded from the object store: a source of %d bytes, %d bytes of a log's index, %s",
            folder.source_bytes,
            end,
            counted(ranges, "range"),
        )

    async def download_partial_source(self, job: Job) -> None:
        """Download what is stored of an incomplete source, and resume uploading from there. Raises what `download` raises."""
        key_prefix = object_keys.source(self._prefix, job.request_id)
        self._sources.expect(
            job.request_id, await download_partial_source(self._objects, key_prefix, self.folder(job.request_id))
        )

    def follow(self, request_id: str) -> None:
        """Upload a job's log while an attempt writes it, until `unfollow`."""
        self._logs.follow(request_id)

    def unfollow(self, request_id: str) -> None:
        """Upload only what has been published so far: the attempt has ended."""
        self._logs.unfollow(request_id)

    async def finish_log(self, request_id: str, is_needed: Callable[[], Awaitable[bool]]) -> None:
        """Wait, at most a day, until all of a published log is stored, while `is_needed` returns True. Raises TargetError."""
        await self._logs.finish(request_id, is_needed)

    async def clear(self, cleanup: Cleanup) -> None:
        """Remove from the store what a cleanup names. Raises TargetError if that is impossible now."""
        if cleanup.what in (JobFiles.SOURCE, JobFiles.EVERYTHING):
            self.forget_source(cleanup.request_id)
            self._logs.end_ranges(cleanup.request_id)
        for key_prefix_of in CLEARED.get(cleanup.what, ()):
            await self._objects.clear(key_prefix_of(self._prefix, cleanup.request_id))

    async def tidy(self, busy: Callable[[str], bool]) -> None:
        """Remove the folders of jobs that ended some time ago, were deleted, or are not this server's.

        Nothing is lost: the contents of a folder are also in the store. busy: reports whether this server works on a job.
        Raises StoreError.
        """
        for path in await asyncio.to_thread(lambda: sorted(self._root.iterdir())):  # partly removed ones sort first
            try:
                await self._tidy(path, busy)
            except OSError as error:  # must not prevent the removal of others
                logger.warning("%s is no longer needed and cannot be removed: %s", path, error)

    async def _tidy(self, path: Path, busy: Callable[[str], bool]) -> None:
        removed = path
        if is_id(path.name):
            async with self._tidy_lock:
                if busy(path.name) or await self._is_needed(path.name):
                    return
                removed = path.with_name(f"{REMOVED_PREFIX}{path.name}")
                with suppress(FileNotFoundError):  # removed in the meantime
                    path.rename(removed)
        if is_id(removed.name.removeprefix(REMOVED_PREFIX)):
            await asyncio.to_thread(shutil.rmtree, removed, ignore_errors=True)
            if removed.exists():
                logger.warning("%s is no longer needed, and cannot be removed completely", removed)

    async def _is_needed(self, request_id: str) -> bool:
        try:
            job = await self._ledger.get(request_id)
        except NotFoundError:
            return False
        if job.state.ended:
            return (job.ended_at or 0.0) > time.time() - LOG_SECONDS and self._is_current(job)
        return job.server == self._ledger.store.server

    async def stop(self) -> None:
        """Upload what has been published, as far as the store accepts it without delay, then stop."""
        await self._logs.stop()
        await self._sources.stop()
