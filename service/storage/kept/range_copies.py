"""Uploads of the ranges of a job's log that are not merged into the log yet, so that a successor need not process them again."""

import asyncio
import logging
from contextlib import aclosing
from pathlib import Path

import google_crc32c

from upres.engine.core.errors import LogError
from upres.engine.segments.folder import PLAN, RANGES
from upres.engine.segments.pieces import Cutter
from upres.service.domain.waiting import in_order
from upres.service.storage.results import Results

from . import object_keys
from .copies import PART, list_parts

UPLOADS = 4  # ranges of a job that are uploaded concurrently

logger = logging.getLogger(__name__)


class RangeCopies:
    """Uploads of the ranges of a log, each of which another attempt is writing. key_prefix: in the store. log: the log's folder.

    merged: names of ranges that were found merged, which are not uploaded any more. Once their contents are in the stored log,
    `remove` deletes their objects. behind: whether a range probably has more to upload.
    """

    def __init__(self, objects: Results, key_prefix: str, log: Path) -> None:
        self._objects = objects
        self._key_prefix = key_prefix
        self._folder = log / RANGES
        self._generation: str | None = None
        self._keys: dict[str, set[str]] = {}  # by name: stored objects, of all generations
        self._cutters: dict[str, Cutter] = {}
        self._plan: bytes | None = None
        self._closed = False
        self.merged: set[str] = set()
        self.behind = False

    def close(self) -> None:
        """Start no more uploads: the job has ended."""
        self._closed = True

    async def step(self, generation: str) -> bool:
        """Upload the next part of each range of a log; return False if there is none. Raises TargetError, UnavailableError."""
        names = await asyncio.to_thread(self._list_local)
        if not names or self._closed:
            return False
        if generation != self._generation:
            await self._begin(generation)
        await self._upload_plan()
        self.behind, more = False, False
        async with aclosing(in_order(map(self._upload, names), UPLOADS)) as uploads:
            async for uploaded in uploads:
                more |= uploaded
        return more

    async def remove(self, names: set[str]) -> None:
        """Delete the objects of ranges, if there are any. Raises TargetError."""
        for name in names & self._keys.keys():
            await self._objects.remove(*self._keys[name])
            del self._keys[name]

    def _list_local(self) -> list[str]:
        """List the ranges that are not known to be merged, in order."""
        try:
            return sorted({path.name for path in self._folder.iterdir() if path.name.isdigit()} - self.merged)
        except FileNotFoundError:
            return []

    async def _begin(self, generation: str) -> None:
        """Find out what is stored, for example by an earlier attempt on this machine."""
        copies = object_keys.grouped(await list_parts(self._objects, self._key_prefix))
        self._keys = {}
        for copy in copies.values():
            for name, parts in copy.items():
                self._keys.setdefault(name, set()).update(part.key for part in parts)
        own = {name: object_keys.chain(parts) for name, parts in copies.get(generation, {}).items()}
        self._cutters = {name: Cutter(self._folder / name, chain[-1].end) for name, chain in own.items() if chain}
        self._generation, self._plan, self.merged = generation, None, set()

    async def _upload_plan(self) -> None:
        """Upload the plan if it is new."""
        plan = await asyncio.to_thread((self._folder / PLAN).read_bytes)
        if plan != self._plan:
            prefix = f"{self._key_prefix}{self._generation}/{object_keys.PLAN}/"
            key = object_keys.key(prefix, 0, len(plan), google_crc32c.value(plan))
            await self._objects.write(key, lambda: iter([plan]), len(plan))
            replaced = {key for key in self._keys.get(object_keys.PLAN, ()) if key.startswith(prefix)} - {key}
            await self._objects.remove(*replaced)
            self._keys.setdefault(object_keys.PLAN, set()).add(key)
            self._plan = plan

    async def _upload(self, name: str) -> bool:
        cutter = self._cutters.setdefault(name, Cutter(self._folder / name))
        try:
            piece = await asyncio.to_thread(cutter.next, PART)
            if cutter.emptied:
                self._forget(name)
                return False
            if piece is None or self._closed:
                return False
            key = object_keys.key(f"{self._key_prefix}{self._generation}/{name}/", piece.start, piece.end)
            await self._objects.write(key, piece.chunks, piece.size)
        except LogError as error:
            if not cutter.emptied:  # otherwise it was merged in the meantime
                logger.warning("range %s is no longer uploaded: %s", name, error)
            self._forget(name)
            return False
        cutter.advance(piece)
        self._keys.setdefault(name, set()).add(key)
        self.behind |= piece.size >= PART
        return True

    def _forget(self, name: str) -> None:
        self.merged.add(name)
        self._cutters.pop(name, None)
