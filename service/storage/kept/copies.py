"""Uploads of a job's source and log from the job's folder to the object store, one part at a time."""

import asyncio
import os
import re
import secrets
from collections.abc import Awaitable, Callable, Iterator
from functools import partial, reduce
from math import inf
from pathlib import Path

import google_crc32c

from upres.engine.core.errors import LogError
from upres.engine.segments.pieces import CHUNK, Cutter
from upres.service.storage.job_folder import JobFolder
from upres.service.storage.results import Results

from . import object_keys
from .object_keys import Generations

PART = 8 << 20  # bytes of a source or of a log per object; a single fragment of a log may be larger
LARGEST_SOURCE_PART = 4 * PART  # bytes of a source per object, if it is received faster than it is uploaded
GENERATION = re.compile(r"[0-9a-f]{16}")


class SourceCopy:
    """Upload of a source that is arriving or has just been received. key_prefix: in the store. stored: bytes in the store."""

    def __init__(self, objects: Results, key_prefix: str, folder: JobFolder, stored: int = 0) -> None:
        self._objects = objects
        self._key_prefix = key_prefix
        self._folder = folder
        self._one = asyncio.Lock()
        self.stored = stored

    @property
    def waiting(self) -> int:
        """Count the bytes that were received and are not in the store yet."""
        return self._folder.source_bytes - self.stored

    async def step(self) -> bool:
        """Upload the next part; return False if there is nothing to upload, or if the job has ended. Raises TargetError."""
        async with self._one:
            start, end = self.stored, min(self._folder.source_bytes, self.stored + LARGEST_SOURCE_PART)
            if end <= start:
                return False
            chunks = partial(_bytes, self._folder.source, start, end)
            try:
                value = await asyncio.to_thread(checksum, self._folder.source, start, end)
            except FileNotFoundError:  # its job has ended in the meantime
                return False
            await self._objects.write(object_keys.key(self._key_prefix, start, end, value), chunks, end - start)
            self.stored = end
            return True


class LogCopy:
    """Upload of a log that is being written. key_prefix: in the store.

    begin: called with a generation that is new to this object; returns all generations of the log, or raises if the job is no
    longer this server's. attempt_ended: set when no more is written. objects: number of objects of the log. behind: whether the
    last object had the full size, so that more has probably been published. generation, end: what is in the store, in bytes of the
    index.
    """

    def __init__(
        self, objects: Results, key_prefix: str, folder: Path, begin: Callable[[str], Awaitable[Generations]]
    ) -> None:
        self._objects = objects
        self._key_prefix = key_prefix
        self._folder = folder
        self._begin = begin
        self._one = asyncio.Lock()
        self.attempt_ended = asyncio.Event()
        self.objects = 0
        self.behind = False
        self.generation: str | None = None
        self.end = 0
        self._cutter: Cutter | None = None

    def published(self) -> int:
        """Return the size of the log's index on disk in bytes; 0 if there is none."""
        try:
            return (self._folder / "index.jsonl").stat().st_size
        except FileNotFoundError:
            return 0

    async def step(self) -> bool:
        """Upload the next published part; return False if there is none. Raises TargetError, UnavailableError, LogError."""
        async with self._one:
            generation = await asyncio.to_thread(ensure_generation, self._folder)
            if generation is None:
                return False
            try:
                return await self._copy(generation)
            except LogError:  # the log was restarted, so it is uploaded from its beginning
                self._cutter = None
                raise

    async def _copy(self, generation: str) -> bool:
        if self._cutter is None or generation != self.generation:
            parts = object_keys.log_chain(
                await list_parts(self._objects, self._key_prefix), await self._begin(generation)
            )
            self.end = parts[-1].end if parts else 0
            self._cutter = Cutter(self._folder, self.end)
            self.generation = generation
            self.objects = len(parts)
        cutter = self._cutter
        piece = await asyncio.to_thread(cutter.next, PART)
        if piece is None or await asyncio.to_thread(read_generation, self._folder) != generation:
            return False
        await self._objects.write(
            object_keys.key(f"{self._key_prefix}{generation}/", piece.start, piece.end), piece.chunks, piece.size
        )
        cutter.advance(piece)
        self.end = piece.end
        self.objects, self.behind = self.objects + 1, piece.size >= PART
        return True


async def list_parts(objects: Results, key_prefix: str, start: int = 0) -> list[object_keys.Part]:
    """List the parts under a key prefix that start at `start` or later. Raises UnavailableError."""
    return object_keys.parts(
        await objects.list_objects(key_prefix, object_keys.before(key_prefix, start) if start else None)
    )


def read_generation(log: Path) -> str | None:
    """Read the generation of a log in a folder; None if it has none."""
    try:
        with (log / "generation").open() as file:
            text = file.read(64)
    except (OSError, ValueError):
        return None
    return text if GENERATION.fullmatch(text) else None


def name_generation(log: Path) -> str:
    """Assign a new generation to a log, stored in the log's folder, so that it is discarded with the log."""
    name = secrets.token_hex(8)
    part = log / "generation.part"
    part.write_text(name)
    part.replace(log / "generation")
    return name


def ensure_generation(log: Path) -> str | None:
    """Return the generation of a log, assigning one if it has none; None if there is no log yet."""
    if not (log / "index.jsonl").exists():
        return None
    return read_generation(log) or name_generation(log)


def checksum(path: Path, start: int = 0, end: float = inf) -> int:
    """Compute the CRC-32C of a file, or of a part of it."""
    return reduce(google_crc32c.extend, _bytes(path, start, end), 0)


def _bytes(path: Path, start: int, end: float) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(start, os.SEEK_SET)
        while start < end and (data := file.read(int(min(CHUNK, end - start)))):
            start += len(data)
            yield data
