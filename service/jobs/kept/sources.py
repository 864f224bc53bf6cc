"""Sources on their way into the store of jobs, as they come."""

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from upres.engine.core.errors import TargetError
from upres.service.domain import job_logging
from upres.service.domain.errors import UnavailableError
from upres.service.storage.job_folder import JobFolder
from upres.service.storage.kept import places
from upres.service.storage.kept.copies import PART, SourceCopy, checksum
from upres.service.storage.results import Results

GATHER_SECONDS = 1.0  # that bytes of a source wait for more of them, before they become an object
AHEAD = 4 * PART  # bytes of a source that may come before they are in the store: its sender keeps what is not
WHOLE_SECONDS = 120.0  # the longest that a sender waits for the store to take more of a source
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # seconds between two tries to store something
AWAY = "the store of jobs does not take the source now; send it again later, from the source_offset that the server has"

logger = logging.getLogger(__name__)


class KeptSources:
    """root: the folder of the jobs' folders. prefix: of keys in the store."""

    def __init__(self, root: Path, objects: Results, prefix: str) -> None:
        self._root = root
        self._objects = objects
        self._prefix = prefix
        self._copies: dict[str, SourceCopy] = {}
        self._flushes: dict[str, asyncio.Task[None]] = {}

    def expect(self, request_id: str, stored: int) -> None:
        """Copy a source that comes from now on, of which so many bytes are in the store."""
        self._copy(request_id).stored = stored

    def came(self, request_id: str) -> None:
        """Take note that bytes of a source have come, which are in the store within a second or two."""
        if request_id not in self._flushes:
            flush = asyncio.create_task(self._flush(request_id))
            self._flushes[request_id] = flush
            flush.add_done_callback(partial(self._flushed, request_id))

    async def admit(self, request_id: str) -> None:
        """Wait while much more of a source is here than in the store; UnavailableError where that takes nothing for long."""
        stored, end = -1, 0.0
        while (copy := self._copies.get(request_id)) is not None and copy.waiting > AHEAD:
            if copy.stored != stored:
                stored, end = copy.stored, time.monotonic() + WHOLE_SECONDS
            elif time.monotonic() >= end:
                raise UnavailableError(AWAY)
            self.came(request_id)
            await asyncio.wait([self._flushes[request_id]], timeout=GATHER_SECONDS)

    def stored(self, request_id: str) -> int:
        """Count the bytes of an arriving source that are in the store."""
        copy = self._copies.get(request_id)
        return 0 if copy is None else copy.stored

    async def whole(self, request_id: str) -> dict[str, Any]:
        """Store the rest of a source that is here whole; give what a job's row says of it.

        Raises UnavailableError where the store does not take it for long.
        """
        copy, now = self._copy(request_id), asyncio.get_running_loop().time
        try:
            async with asyncio.timeout(WHOLE_SECONDS) as limit:
                await self._store(request_id, copy, lambda: limit.reschedule(now() + WHOLE_SECONDS))
        except TimeoutError as error:
            raise UnavailableError(AWAY) from error
        if self._copies.get(request_id) is not copy:  # its job has ended meanwhile
            return {}
        try:
            value = await asyncio.to_thread(checksum, self._folder(request_id).source)
        except FileNotFoundError:  # as above
            return {}
        return {"source": {"bytes": copy.stored, "crc32c": value}}

    def forget(self, request_id: str) -> None:
        """Copy no more of a source."""
        self._copies.pop(request_id, None)

    async def stop(self) -> None:
        """Copy nothing more."""
        flushes = [*self._flushes.values()]
        for flush in flushes:
            flush.cancel()
        await asyncio.gather(*flushes, return_exceptions=True)

    def _folder(self, request_id: str) -> JobFolder:
        return JobFolder(self._root / request_id)

    def _copy(self, request_id: str) -> SourceCopy:
        if (copy := self._copies.get(request_id)) is None:
            place = places.source(self._prefix, request_id)
            copy = self._copies[request_id] = SourceCopy(self._objects, place, self._folder(request_id))
        return copy

    async def _flush(self, request_id: str) -> None:
        """Store what has come of a source, and what comes meanwhile."""
        copy = self._copy(request_id)
        if copy.waiting < PART:
            await asyncio.sleep(GATHER_SECONDS)
        with job_logging.about(request_id):
            await self._store(request_id, copy)
        if not self._folder(request_id).source.exists():  # its job has ended, and nobody may forget it any more
            self._copies.pop(request_id, None)

    async def _store(self, request_id: str, copy: SourceCopy, on_part: Callable[[], None] = lambda: None) -> None:
        """Store all of a source that is here by then, however often that fails, until its job has ended. on_part: after each."""
        pause = FIRST_PAUSE
        while self._copies.get(request_id) is copy:
            try:
                if not await copy.step():
                    return
                on_part()
                pause = FIRST_PAUSE
            except TargetError as error:
                logger.warning("%s; trying again in %g s", error, pause)
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)

    def _flushed(self, request_id: str, task: asyncio.Task[None]) -> None:
        self._flushes.pop(request_id, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("%s: its source is not copied until more of it comes", request_id, exc_info=error)
