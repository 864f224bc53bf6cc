"""A job's log read while it grows, wherever it lies: in its folder here, or in the store of jobs."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from pathlib import Path

from upres.engine.core.errors import LogError
from upres.engine.segments.model import Fragment, Track
from upres.engine.segments.tail import Tail
from upres.service.storage.job_store import Job
from upres.service.storage.kept import places
from upres.service.storage.kept.tail import KeptTail
from upres.service.storage.results import CHUNK, Results

RESTARTED = "the log was restarted with other settings; read it from its start"


class HereLog:
    """Of a log in a folder."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._tail = Tail(log)

    async def is_there(self, job: Job) -> bool:
        """Report whether there is anything to read."""
        return self._log.exists()

    async def news(self, job: Job | None = None) -> AsyncGenerator[Track | Fragment]:
        """Yield what was published since the last call, in order, to be read to its end. job: as it was then. Raises LogError."""
        for item in await asyncio.to_thread(self._tail.news):
            yield item

    async def parts(self, fragment: Fragment) -> AsyncGenerator[bytes]:
        """Yield a fragment's bytes; LogError before the last of them where they are damaged or missing."""
        left, parts = fragment.size, self._tail.parts(fragment, CHUNK)
        while left:
            data = await asyncio.to_thread(next, parts)
            left -= len(data)
            yield data


class KeptLog:
    """Of a log that is read in its folder while that is the newest there is, else by ranges of its objects.

    place: in the store. is_here: whether the folder has what the job goes on with.
    A change from one to the other leaves no fragment out, and yields none twice. Raises UnavailableError besides.
    """

    def __init__(self, log: Path, objects: Results, place: str, is_here: Callable[[Job], bool]) -> None:
        self._log = log
        self._objects = objects
        self._place = place
        self._is_here = is_here
        self._kept: places.Generations | None = None
        self._tail: HereLog | KeptTail = HereLog(log)
        self._tracks: dict[str, Track] = {}
        self._seen: dict[str, tuple[int, int]] = {}

    async def is_there(self, job: Job) -> bool:
        """Report whether there is anything to read."""
        if await asyncio.to_thread(self._is_here, job) and self._log.exists():
            return True
        return bool(await self._objects.listed(self._place))

    async def news(self, job: Job) -> AsyncGenerator[Track | Fragment]:
        """As `HereLog.news`."""
        await self._choose(job)
        async with aclosing(self._tail.news()) as items:
            async for item in items:
                if self._is_new(item):
                    yield item

    def parts(self, fragment: Fragment) -> AsyncGenerator[bytes]:
        """As `HereLog.parts`."""
        return self._tail.parts(fragment)

    async def _choose(self, job: Job) -> None:
        """Read where the newest of the log is from now on: from its start again, where that has changed."""
        kept, local = places.generations(job.kept.get("log", ())), await asyncio.to_thread(self._is_here, job)
        before = self._kept
        if before and kept and not {name for name, _ in before} & {name for name, _ in kept}:
            raise LogError(RESTARTED)
        if local != isinstance(self._tail, HereLog) or (not local and kept != before):
            self._tail = HereLog(self._log) if local else KeptTail(self._objects, self._place, kept)
        self._kept = kept

    def _is_new(self, item: Track | Fragment) -> bool:
        if isinstance(item, Track):
            before = self._tracks.setdefault(item.name, item)
            if before != item:
                raise LogError(RESTARTED)
            return before is item
        if item.cursor <= self._seen.get(item.track, (-1, -1)):
            return False
        self._seen[item.track] = item.cursor
        return True


JobLog = HereLog | KeptLog
