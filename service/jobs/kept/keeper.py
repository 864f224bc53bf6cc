"""Jobs that are kept in an object store: what they need is copied there, and brought from there.

An attempt works in the job's folder on this machine, as it does without a store. What is whole there, a part of the source or
records of the log, is copied at once. A server that gets another one's job brings both before an attempt starts.
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

from upres.service.domain.errors import LostError, NotFoundError, UnavailableError
from upres.service.domain.request_id import is_id
from upres.service.jobs.change_events import Ledger
from upres.service.storage.cleanups import Cleanup, What
from upres.service.storage.job_store import LOG_SECONDS, Job
from upres.service.storage.kept import places
from upres.service.storage.kept.bringing import bring_arrived, bring_log, bring_source
from upres.service.storage.kept.copies import read_generation
from upres.service.storage.kept.places import Generations
from upres.service.storage.results import Results

from .here import Here
from .logs import KeptLogs
from .reader import KeptLog
from .sources import KeptSources

HELD = "an attempt that has not ended yet has its folder"
NOWHERE = "its source came to a server without UPRES_STORE, and is on the disk of that one alone"
GONE = "."  # before the name of a folder that is being removed

logger = logging.getLogger(__name__)


class Keeper(Here):
    """objects: the store of jobs."""

    apart = True

    def __init__(self, root: Path, ledger: Ledger, objects: Results) -> None:
        super().__init__(root)
        self._ledger = ledger
        self._objects = objects
        self._prefix = ledger.store.result_prefix
        self._sources = KeptSources(root, objects, self._prefix)
        self._logs = KeptLogs(ledger, root, objects, self._prefix)
        self._alone = asyncio.Lock()  # looking whether a job's files are here, or removing those that are not needed

    def log(self, request_id: str) -> KeptLog:
        """Read a job's log, in its folder or in the store."""
        place = places.log(self._prefix, request_id)
        return KeptLog(self.folder(request_id).log, self._objects, place, self._is_current)

    async def check(self) -> None:
        """Raise TargetError where the store does not answer."""
        await self._objects.check(self._prefix)

    def source_came(self, request_id: str) -> None:
        """Take note that bytes of a source have come, which are in the store within a second or two."""
        self._sources.came(request_id)

    async def admit(self, request_id: str) -> None:
        """Wait while much more of a source is here than in the store. Raises UnavailableError."""
        await self._sources.admit(request_id)

    def stored(self, request_id: str) -> int:
        """Count the bytes of a source that comes which are in the store."""
        return self._sources.stored(request_id)

    async def source_whole(self, request_id: str) -> dict[str, Any]:
        """Store the rest of a source that is here whole; give what a job's row says of it. Raises UnavailableError."""
        return await self._sources.whole(request_id)

    def forget_source(self, request_id: str) -> None:
        """Copy no more of a source."""
        self._sources.forget(request_id)

    async def has(self, job: Job) -> bool:
        """Report whether an attempt at a job can start here: its source is here, as far as it came, and the newest of its log."""
        async with self._alone:
            return await asyncio.to_thread(lambda: self._has_source(job) and self._is_current(job))

    def _has_source(self, job: Job) -> bool:
        folder, source = self.folder(job.request_id), job.kept.get("source")
        if source is None:  # it still arrives here, or came before there was a store
            return not job.source_complete or folder.source_whole
        return folder.source_whole and folder.source_bytes == int(source["bytes"])

    def _is_current(self, job: Job) -> bool:
        """Report whether the log in the job's folder, if there is any, is the one that the job goes on with."""
        kept = places.generations(job.kept.get("log", ()))
        return not kept or read_generation(self.folder(job.request_id).log) == kept[-1][0]

    async def bring(self, job: Job) -> None:
        """Bring what an attempt at a job needs.

        Raises UnavailableError where it cannot be had now, LostError where it is not there, OSError where it cannot be written
        here, StoreError, TransitionError.
        """
        folder = self.folder(job.request_id)
        folder.path.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(folder.lock, timeout=0, thread_local=False):
                if not await asyncio.to_thread(self._has_source, job):
                    place, source = places.source(self._prefix, job.request_id), job.kept.get("source")
                    if source is None:
                        raise LostError(NOWHERE)
                    await bring_source(self._objects, place, folder, int(source["bytes"]), int(source["crc32c"]))
                if not await asyncio.to_thread(self._is_current, job):
                    await self._bring_log(job)
        except Timeout as error:
            raise UnavailableError(HELD) from error

    async def _bring_log(self, job: Job) -> None:
        folder, kept = self.folder(job.request_id), places.generations(job.kept["log"])

        async def begin(generations: Generations) -> None:
            await self._ledger.change(job.request_id, kept={"log": generations})

        end = await bring_log(self._objects, places.log(self._prefix, job.request_id), folder.log, kept, begin)
        logger.info(
            "brought from the store of jobs: a source of %d bytes, %d of a log's index", folder.source_bytes, end
        )

    async def bring_arrived(self, job: Job) -> None:
        """Bring what came of a source that is not whole yet; what comes is copied from there. Raises as `bring`."""
        place = places.source(self._prefix, job.request_id)
        self._sources.expect(job.request_id, await bring_arrived(self._objects, place, self.folder(job.request_id)))

    def follow(self, request_id: str) -> None:
        """Copy a job's log while an attempt writes it, until it is left."""
        self._logs.follow(request_id)

    def leave(self, request_id: str) -> None:
        """Copy no more than what is published by now: the attempt has ended."""
        self._logs.leave(request_id)

    async def log_whole(self, request_id: str, wanted: Callable[[], Awaitable[bool]]) -> None:
        """Wait until all of a log that is made is in the store; for a day at most, while wanted. Raises TargetError."""
        await self._logs.whole(request_id, wanted)

    async def clear(self, cleanup: Cleanup) -> None:
        """Remove from the store what is no longer needed; TargetError where that cannot be done now."""
        if cleanup.what in (What.SOURCE, What.EVERYTHING):
            self.forget_source(cleanup.request_id)
        place = {
            What.SOURCE: places.source,
            What.LOG: places.log,
            What.FOLDER: places.home,
            What.EVERYTHING: places.home,
        }.get(cleanup.what)
        if place is not None:
            await self._objects.clear(place(self._prefix, cleanup.request_id))

    async def tidy(self, busy: Callable[[str], bool]) -> None:
        """Remove the folders of jobs that have ended a while ago, or elsewhere, were deleted, or are another server's by now.

        busy: whether this server works on a job. Nothing is lost by it: what is in a folder is in the store. Raises StoreError.
        """
        for path in await asyncio.to_thread(lambda: sorted(self._root.iterdir())):  # what was left of one first
            try:
                await self._tidy(path, busy)
            except OSError as error:  # no other's fault
                logger.warning("%s is no longer needed and cannot be removed: %s", path, error)

    async def _tidy(self, path: Path, busy: Callable[[str], bool]) -> None:
        gone = path
        if is_id(path.name):
            async with self._alone:
                if busy(path.name) or await self._is_needed(path.name):
                    return
                gone = path.with_name(f"{GONE}{path.name}")
                with suppress(FileNotFoundError):  # removed meanwhile
                    path.rename(gone)
        if is_id(gone.name.removeprefix(GONE)):
            await asyncio.to_thread(shutil.rmtree, gone, ignore_errors=True)
            if gone.exists():
                logger.warning("%s is no longer needed, and not all of it can be removed", gone)

    async def _is_needed(self, request_id: str) -> bool:
        try:
            job = await self._ledger.get(request_id)
        except NotFoundError:
            return False
        if job.state.ended:
            return (job.ended_at or 0.0) > time.time() - LOG_SECONDS and self._is_current(job)
        return job.server == self._ledger.store.server

    async def stop(self) -> None:
        """Copy what is published, as far as the store takes it at once, and nothing more."""
        await self._logs.stop()
        await self._sources.stop()
