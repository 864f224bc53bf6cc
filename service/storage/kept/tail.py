"""Reader of a log in the object store while it grows."""

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

from . import object_keys
from .copies import list_parts
from .object_keys import Generations, Part


class KeptTail(Records):
    """Reader of a log by byte ranges of its objects. key_prefix: in the store. kept: the log's generations.

    Raises UnavailableError if the store does not respond, LogError if the log is damaged.
    """

    def __init__(self, objects: Results, key_prefix: str, kept: Generations) -> None:
        super().__init__()
        self._objects = objects
        self._key_prefix = key_prefix
        self._kept = kept
        self._end = 0
        self._where: dict[Fragment, tuple[str, int]] = {}

    async def news(self) -> AsyncGenerator[Track | Fragment]:
        """Yield the tracks and fragments that were stored since the last call, in order; must be read to its end."""
        news = await self._list_new()
        async with aclosing(in_order(self._head(part) for part in news)) as heads:
            for part in news:
                for item in self._parse_part(part, await anext(heads)):
                    yield item

    async def _list_new(self) -> list[Part]:
        """List only the parts that follow what was read: a log may have thousands."""
        names = [name for name, end in self._kept if end is None or end > self._end]
        parts = [
            part for name in names for part in await list_parts(self._objects, f"{self._key_prefix}{name}/", self._end)
        ]
        news = object_keys.log_chain(parts, self._kept, self._end)
        if parts and not news:  # the same bytes were stored again as different parts
            raise UnavailableError("the log is being stored again; continue reading in a moment")
        return news

    async def _head(self, part: Part) -> bytes:
        end = min(part.size, HEAD + part.end - part.start)
        return b"".join([data async for data in self._objects.read(part.key, 0, end)])

    def _parse_part(self, part: Part, head: bytes) -> list[Track | Fragment]:
        lines, at = records(head, part.end - part.start)
        items = self.parsed(lines)
        for item in items:
            if isinstance(item, Fragment):
                self._where[item] = part.key, at
                at += item.size
        self._end = part.end
        return items

    async def parts(self, fragment: Fragment) -> AsyncGenerator[bytes]:
        """Yield a fragment's bytes, which can be read once. Raises LogError, before yielding the last of them, if damaged."""
        key, at = self._where.pop(fragment)
        checksum, before = 0, b""
        async for data in self._objects.read(key, at, at + fragment.size):
            checksum = google_crc32c.extend(checksum, data)
            if before:
                yield before
            before = data
        if checksum != fragment.crc32c:
            raise LogError(f"segment {fragment.segment} of track {fragment.track} is damaged in the object store")
        yield before
