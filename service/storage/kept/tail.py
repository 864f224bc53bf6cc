"""A log that lies in the store, read while it grows."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

import google_crc32c

from upres.engine.core.errors import LogError
from upres.engine.segments.model import Fragment, Track
from upres.engine.segments.pieces import HEAD, records
from upres.engine.segments.tail import Records
from upres.service.domain.errors import UnavailableError
from upres.service.domain.waiting import in_order
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

    async def news(self) -> AsyncGenerator[Track | Fragment]:
        """Yield the tracks and fragments that have come into the store since the last call, in order. To be read to its end."""
        line = places.log_chain(await found(self._objects, self._place), self._kept)
        news = [part for part in line if part.end > self._end]
        async with aclosing(in_order(self._head(part) for part in news)) as heads:
            for part in news:
                for item in self._opened(part, await anext(heads)):
                    yield item

    async def _head(self, part: Part) -> bytes:
        end = min(part.size, HEAD + part.end - part.start)
        return b"".join([data async for data in self._objects.read(part.key, 0, end)])

    def _opened(self, part: Part, head: bytes) -> list[Track | Fragment]:
        if part.start != self._end:  # of the same bytes another part has come than the one that was read
            raise UnavailableError("the log is being stored once more; read on in a moment")
        lines, at = records(head, part.end - part.start)
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
