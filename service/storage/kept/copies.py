"""A job's source and its log on their way from the job's folder into the store, a part at a time."""

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

from . import places
from .places import Generations

PART = 8 << 20  # bytes of a source, or of a log, that go into one object: a log's fragment may be larger
MOST = 4 * PART  # bytes of a source, where it comes faster than it is stored
GENERATION = re.compile(r"[0-9a-f]{16}")


class SourceCopy:
    """A source that is still arriving, or has just come. place: in the store. stored: bytes of it that are there."""

    def __init__(self, objects: Results, place: str, folder: JobFolder, stored: int = 0) -> None:
        self._objects = objects
        self._place = place
        self._folder = folder
        self._one = asyncio.Lock()
        self.stored = stored

    @property
    def waiting(self) -> int:
        """Count the bytes that are here and not in the store yet."""
        return self._folder.source_bytes - self.stored

    async def step(self) -> bool:
        """Store what has come; False where nothing has, or its job has ended. Raises TargetError."""
        async with self._one:
            start, end = self.stored, min(self._folder.source_bytes, self.stored + MOST)
            if end <= start:
                return False
            chunks = partial(_bytes, self._folder.source, start, end)
            try:
                value = await asyncio.to_thread(checksum, self._folder.source, start, end)
            except FileNotFoundError:  # its job has ended meanwhile
                return False
            await self._objects.write(places.key(self._place, start, end, value), chunks, end - start)
            self.stored = end
            return True


class LogCopy:
    """A log that is being written. place: in the store.

    begin: called with a generation that is new here; gives those of the log by then. Raises what says that the job is no longer
    this server's. left: set where nothing more is written. objects: of the log by now. behind: whether the last one is as large
    as they become, so that more is likely to be published.
    """

    def __init__(
        self, objects: Results, place: str, folder: Path, begin: Callable[[str], Awaitable[Generations]]
    ) -> None:
        self._objects = objects
        self._place = place
        self._folder = folder
        self._begin = begin
        self._one = asyncio.Lock()
        self.left = asyncio.Event()
        self.objects = 0
        self.behind = False
        self._generation: str | None = None
        self._cutter: Cutter | None = None

    async def step(self) -> bool:
        """Store what was published next; False where nothing was. Raises TargetError, UnavailableError, LogError."""
        async with self._one:
            generation = await asyncio.to_thread(named, self._folder)
            if generation is None:
                return False
            try:
                return await self._copied(generation)
            except LogError:  # it was restarted: it is copied from its start
                self._cutter = None
                raise

    async def _copied(self, generation: str) -> bool:
        if self._cutter is None or generation != self._generation:
            line = places.log_chain(await found(self._objects, self._place), await self._begin(generation))
            self._cutter = Cutter(self._folder, line[-1].end if line else 0)
            self._generation = generation
            self.objects = len(line)
        cutter = self._cutter
        piece = await asyncio.to_thread(cutter.next, PART)
        if piece is None or await asyncio.to_thread(read_generation, self._folder) != generation:
            return False
        await self._objects.write(
            places.key(f"{self._place}{generation}/", piece.start, piece.end), piece.chunks, piece.size
        )
        cutter.advance(piece)
        self.objects, self.behind = self.objects + 1, piece.size >= PART
        return True


async def found(objects: Results, place: str) -> list[places.Part]:
    """List the parts that lie in a place. Raises UnavailableError."""
    return places.parts(await objects.listed(place))


def read_generation(log: Path) -> str | None:
    """Read which generation a log in a folder is; None where nobody has named it."""
    try:
        with (log / "generation").open() as file:
            said = file.read(64)
    except (OSError, ValueError):
        return None
    return said if GENERATION.fullmatch(said) else None


def name_generation(log: Path) -> str:
    """Name a log's generation, which goes with it where it is discarded."""
    name = secrets.token_hex(8)
    part = log / "generation.part"
    part.write_text(name)
    part.replace(log / "generation")
    return name


def named(log: Path) -> str | None:
    """Read which generation a log is, and name it where nobody has; None where there is no log yet."""
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
