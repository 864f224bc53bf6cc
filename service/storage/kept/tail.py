"""A log that lies in the store, read while it grows."""

from collections.abc import AsyncGenerator

import google_crc32c

from upres.engine.core.errors import LogError
from upres.engine.segments.model import Fragment, Track
from upres.engine.segments.pieces import HEAD, records
from upres.engine.segments.tail import Records
from upres.service.domain.errors import UnavailableError
from upres.service.storage.results import Results

from . import places
from .copies import found
from .places import Generations, Part


class KeptTail(Records):
    """A reader of a log by ranges of its objects. place: in the store. kept: the generations that it consists of.

    Raises UnavailableError where the store does not answer, LogError where the log is damaged.
    """

    def __init__(self, objects: Results, place: str, kept: Generations) -> None:
        super().__init__()
        self._objects = objects
        self._place = place
        self._kept = kept
        self._end = 0
        self._where: dict[Fragment, tuple[str, int]] = {}

    async def news(self) -> list[Track | Fragment]:
        """Return the tracks and fragments that have come into the store since the last call, in order."""
        items: list[Track | Fragment] = []
        for part in places.log_chain(await found(self._objects, self._place), self._kept):
            if part.end > self._end:
                items += await self._opened(part)
        return items

    async def _opened(self, part: Part) -> list[Track | Fragment]:
        if part.start != self._end:  # of the same bytes another part has come than the one that was read
            raise UnavailableError("the log is being stored once more; read on in a moment")
        length = part.end - part.start
        data = [data async for data in self._objects.read(part.key, 0, min(part.size, HEAD + length))]
        lines, at = records(b"".join(data), length)
        items = self.parsed(lines)
        for item in items:
            if isinstance(item, Fragment):
                self._where[item] = part.key, at
                at += item.size
        self._end = part.end
        return items

    async def parts(self, fragment: Fragment) -> AsyncGenerator[bytes]:
        """Yield a fragment's bytes; LogError before the last of them where they are damaged. Each can be read once."""
        key, at = self._where.pop(fragment)
        checksum, before = 0, b""
        async for data in self._objects.read(key, at, at + fragment.size):
            checksum = google_crc32c.extend(checksum, data)
            if before:
                yield before
            before = data
        if checksum != fragment.crc32c:
            raise LogError(f"segment {fragment.segment} of track {fragment.track} is damaged in the store of jobs")
        yield before
