"""A job's source and its log on their way from the store into the job's folder on this machine."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path

import google_crc32c

from upres.engine.core.errors import LogError
from upres.engine.segments.pieces import PieceWriter
from upres.service.domain.errors import LostError
from upres.service.domain.waiting import in_order
from upres.service.storage.job_folder import JobFolder, remove_tree
from upres.service.storage.results import Results

from . import places
from .copies import checksum, found, name_generation
from .places import Generations, Part

LOST = "the store of jobs has not all of the source"
DIFFERS = "the store of jobs has another source than the one that was put there"


async def download_source(objects: Results, place: str, folder: JobFolder, size: int, crc32c: int) -> None:
    """Bring a whole source. Raises LostError, UnavailableError where it cannot be had now, OSError where it cannot be written."""
    line = places.source_chain(part for part in await found(objects, place) if part.end <= size)
    if (line[-1].end if line else 0) != size:
        raise LostError(LOST)
    await asyncio.to_thread(folder.make)
    path = folder.path / "source.part"
    if await _downloaded(objects, line, path) != size or await asyncio.to_thread(checksum, path) != crc32c:
        raise LostError(DIFFERS)
    path.replace(folder.source)
    await asyncio.to_thread(folder.end_source)


async def download_partial_source(objects: Results, place: str, folder: JobFolder) -> int:
    """Bring what there is of a source that still arrives, unless as much is here; give how much is stored. Raises as above.

    From a part on that is damaged it is to come again.
    """
    line = places.source_chain(await found(objects, place))
    stored = line[-1].end if line else 0
    if stored > folder.source_bytes:
        await asyncio.to_thread(folder.make)
        path = folder.path / "source.part"
        stored = await _downloaded(objects, line, path)
        if stored > folder.source_bytes:
            path.replace(folder.source)
    return stored


async def download_log(
    objects: Results, place: str, log: Path, kept: Generations, begin: Callable[[Generations], Awaitable[None]]
) -> int:
    """Bring what there is of a log, in place of what is here, as a new generation; give how much of its index that is.

    begin: called with the generations before the log appears. Raises UnavailableError, OSError.
    """
    line = places.log_chain(await found(objects, place), kept)
    part, pieces = log.with_name("log.part"), log.with_name("pieces.part")
    for folder in (part, pieces):
        await asyncio.to_thread(remove_tree, folder)
    pieces.mkdir(parents=True)
    try:
        end = await _written(objects, line, pieces, written := PieceWriter(part))
    finally:
        await asyncio.to_thread(remove_tree, pieces)
    await asyncio.to_thread(remove_tree, log)
    if end:
        name = name_generation(part)
        await asyncio.to_thread(written.sync)
        await begin([*places.closed(kept, end), (name, None)])
        part.rename(log)
    else:
        await asyncio.to_thread(remove_tree, part)
    return end


async def _written(objects: Results, line: list[Part], folder: Path, log: PieceWriter) -> int:
    """Write pieces into a log, by way of a folder, as far as none of them is damaged, and give how far that is."""
    paths = [folder / str(piece.start) for piece in line]
    downloads = (_download(objects, piece, path) for piece, path in zip(line, paths, strict=True))
    end = 0
    async with aclosing(in_order(downloads)) as brought:
        for piece, path in zip(line, paths, strict=True):
            await anext(brought)
            try:
                await asyncio.to_thread(log.add, path, piece.end - piece.start)
            except LogError:  # the rest is made again
                break
            path.unlink()
            end = piece.end
    return end


async def _downloaded(objects: Results, line: list[Part], path: Path) -> int:
    """Write parts of a source into a file, as far as none of them is damaged, and give how far that is."""
    await asyncio.to_thread(path.write_bytes, b"")
    async with aclosing(in_order(_download(objects, part, path, part.start) for part in line)) as sums:
        end = 0
        for part in line:
            if await anext(sums) != part.crc32c:
                break
            end = part.end
    await asyncio.to_thread(os.truncate, path, end)
    return end


async def _download(objects: Results, part: Part, path: Path, start: int = 0) -> int:
    """Write what a part holds to a place of a file, and give its CRC-32C."""
    value = 0
    path.touch()
    with path.open("r+b") as file:
        file.seek(start)
        async for data in objects.read(part.key, 0, part.size):
            await asyncio.to_thread(file.write, data)
            value = google_crc32c.extend(value, data)
    return value
