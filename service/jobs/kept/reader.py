"""Readers of a job's log while it grows, in its folder on this machine or in the object store."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from pathlib import Path

from upres.engine.core.errors import LogError
from upres.engine.segments.model import Fragment, Track
from upres.engine.segments.tail import Tail
from upres.service.storage.job_store import Job
from upres.service.storage.kept import object_keys
from upres.service.storage.kept.tail import KeptTail
from upres.service.storage.results import CHUNK, Results

REPLACED = "the log was replaced; read it from its start"


class LocalLog:
    """Reader of a log in a folder."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._tail = Tail(log)

    async def exists(self, job: Job) -> bool:
        """Report whether there is a log to read."""
        return self._log.exists()

    async def news(self, job: Job | None = None) -> AsyncGenerator[Track | Fragment]:
        """Yield what was published since the last call, in order; must be read to its end. job: as read before. Raises LogError."""
        for item in await asyncio.to_thread(self._tail.news):
            yield item

    async def parts(self, fragment: Fragment) -> AsyncGenerator[bytes]:
        """Yield a fragment's bytes. Raises LogError, before yielding the last of them, if they are damaged or missing."""
        remaining, parts = fragment.size, self._tail.parts(fragment, CHUNK)
        while remaining:
            data = await asyncio.to_thread(next, parts)
            remaining -= len(data)
            yield data


class KeptLog:
    """Reader of a log in its folder while that has the current generation, otherwise in the object store by byte ranges.

    key_prefix: of the log in the store. is_here: reports whether the folder has the generation that the job continues.
    Switching from one to the other skips no fragment and repeats none. Also raises UnavailableError.
    """

    def __init__(self, log: Path, objects: Results, key_prefix: str, is_here: Callable[[Job], bool]) -> None:
        self._log = log
        self._objects = objects
        self._key_prefix = key_prefix
        self._is_here = is_here
        self._kept: object_keys.Generations | None = None
        self._tail: LocalLog | KeptTail = LocalLog(log)
        self._tracks: dict[str, Track] = {}
        self._seen: dict[str, tuple[int, int]] = {}

    async def exists(self, job: Job) -> bool:
        """Report whether there is a log to read."""
        if await asyncio.to_thread(self._is_here, job) and self._log.exists():
            return True
        return not await self._objects.is_empty(self._key_prefix)

    async def news(self, job: Job) -> AsyncGenerator[Track | Fragment]:
        """As `LocalLog.news`."""
        await self._choose(job)
        async with aclosing(self._tail.news()) as items:
            async for item in items:
                if self._is_new(item):
                    yield item

    def parts(self, fragment: Fragment) -> AsyncGenerator[bytes]:
        """As `LocalLog.parts`."""
        return self._tail.parts(fragment)

    async def _choose(self, job: Job) -> None:
        """Choose the reader of the current log; a new reader starts at the beginning of the log."""
        kept, local = object_keys.generations(job.kept.get("log", ())), await asyncio.to_thread(self._is_here, job)
        before = self._kept
        if before and kept and not {name for name, _ in before} & {name for name, _ in kept}:
            raise LogError(REPLACED)
        if local != isinstance(self._tail, LocalLog) or (not local and kept != before):
            self._tail = LocalLog(self._log) if local else KeptTail(self._objects, self._key_prefix, kept)
        self._kept = kept

    def _is_new(self, item: Track | Fragment) -> bool:
        if isinstance(item, Track):
            before = self._tracks.setdefault(item.name, item)
            if before != item:
                raise LogError(REPLACED)
            return before is item
        if item.cursor <= self._seen.get(item.track, (-1, -1)):
            return False
        self._seen[item.track] = item.cursor
        return True


JobLog = LocalLog | KeptLog
