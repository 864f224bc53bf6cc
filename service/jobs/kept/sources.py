"""Background tasks that upload sources to the object store while they are received."""

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
from upres.service.storage.kept import object_keys
from upres.service.storage.kept.copies import PART, SourceCopy, checksum
from upres.service.storage.results import Results

GATHER_SECONDS = 1.0  # how long bytes of a source are gathered before they are uploaded as one object
AHEAD = 4 * PART  # bytes of a source that may be received before they are uploaded: the sender keeps what is not stored
STALL_SECONDS = 120.0  # longest time that a sender waits for the store to accept more of a source
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # seconds between two attempts to upload something
STORE_UNAVAILABLE = (
    "the object store does not accept the source now; send it again later, from the server's source_offset"
)

logger = logging.getLogger(__name__)


class KeptSources:
    """Uploads sources that are being received. root: parent of the job folders. prefix: of keys in the store."""

    def __init__(self, root: Path, objects: Results, prefix: str) -> None:
        self._root = root
        self._objects = objects
        self._prefix = prefix
        self._copies: dict[str, SourceCopy] = {}
        self._flushes: dict[str, asyncio.Task[None]] = {}

    def expect(self, request_id: str, stored: int) -> None:
        """Resume the upload of a source of which `stored` bytes are in the store."""
        self._copy(request_id).stored = stored

    def on_bytes(self, request_id: str) -> None:
        """Schedule the upload of bytes that were received, within a second or two."""
        if request_id not in self._flushes:
            flush = asyncio.create_task(self._flush(request_id))
            self._flushes[request_id] = flush
            flush.add_done_callback(partial(self._flushed, request_id))

    async def admit(self, request_id: str) -> None:
        """Wait while the upload lags more than AHEAD bytes behind. Raises UnavailableError after STALL_SECONDS without progress."""
        stored, end = -1, 0.0
        while (copy := self._copies.get(request_id)) is not None and copy.waiting > AHEAD:
            if copy.stored != stored:
                stored, end = copy.stored, time.monotonic() + STALL_SECONDS
            elif time.monotonic() >= end:
                raise UnavailableError(STORE_UNAVAILABLE)
            self.on_bytes(request_id)
            await asyncio.wait([self._flushes[request_id]], timeout=GATHER_SECONDS)

    def stored(self, request_id: str) -> int:
        """Return how many bytes of an arriving source are in the store."""
        copy = self._copies.get(request_id)
        return 0 if copy is None else copy.stored

    async def finish(self, request_id: str) -> dict[str, Any]:
        """Upload the rest of a complete source; return what its job's row records about it.

        Raises UnavailableError after STALL_SECONDS without progress.
        """
        copy, now = self._copy(request_id), asyncio.get_running_loop().time
        try:
            async with asyncio.timeout(STALL_SECONDS) as limit:
                await self._store(request_id, copy, lambda: limit.reschedule(now() + STALL_SECONDS))
        except TimeoutError as error:
            raise UnavailableError(STORE_UNAVAILABLE) from error
        if self._copies.get(request_id) is not copy:  # its job has ended in the meantime
            return {}
        try:
            value = await asyncio.to_thread(checksum, self._folder(request_id).source)
        except FileNotFoundError:  # as above
            return {}
        return {"source": {"bytes": copy.stored, "crc32c": value}}

    def forget(self, request_id: str) -> None:
        """Stop uploading a source."""
        self._copies.pop(request_id, None)

    async def stop(self) -> None:
        """Stop all uploads."""
        flushes = [*self._flushes.values()]
        for flush in flushes:
            flush.cancel()
        await asyncio.gather(*flushes, return_exceptions=True)

    def _folder(self, request_id: str) -> JobFolder:
        return JobFolder(self._root / request_id)

    def _copy(self, request_id: str) -> SourceCopy:
        if (copy := self._copies.get(request_id)) is None:
            key_prefix = object_keys.source(self._prefix, request_id)
            copy = self._copies[request_id] = SourceCopy(self._objects, key_prefix, self._folder(request_id))
        return copy

    async def _flush(self, request_id: str) -> None:
        """Upload what has been received of a source, including what arrives during the upload."""
        copy = self._copy(request_id)
        if copy.waiting < PART:
            await asyncio.sleep(GATHER_SECONDS)
        with job_logging.about(request_id):
            await self._store(request_id, copy)
        if not self._folder(request_id).source.exists():  # its job has ended, and `forget` may not be called any more
            self._copies.pop(request_id, None)

    async def _store(self, request_id: str, copy: SourceCopy, on_part: Callable[[], None] = lambda: None) -> None:
        """Upload all that has been received of a source, retrying until its job has ended. on_part: called after each part."""
        pause = FIRST_PAUSE
        while self._copies.get(request_id) is copy:
            try:
                if not await copy.step():
                    return
                on_part()
                pause = FIRST_PAUSE
            except TargetError as error:
                logger.warning("%s; retrying in %g s", error, pause)
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)

    def _flushed(self, request_id: str, task: asyncio.Task[None]) -> None:
        self._flushes.pop(request_id, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("%s: its source is not uploaded until more of it is received", request_id, exc_info=error)
