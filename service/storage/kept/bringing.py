"""A job's source and its log on their way from the store into the job's folder on this machine."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import google_crc32c

from upres.engine.core.errors import LogError
from upres.engine.segments.pieces import Written
from upres.service.domain.errors import LostError
from upres.service.storage.job_folder import JobFolder
from upres.service.storage.results import Results

from . import places
from .copies import found, name_generation
from .places import Generations, Part

LOST = "the store of jobs has not all of the source"
DIFFERS = "the store of jobs has another source than the one that was put there"


async def bring_source(objects: Results, place: str, folder: JobFolder, size: int, checksum: int) -> None:
    """Bring a whole source. Raises LostError, UnavailableError where it cannot be had now, OSError where it cannot be written."""
    line = places.chain(await found(objects, place), end=size)
    if (line[-1].end if line else 0) != size:
        raise LostError(LOST)
    await asyncio.to_thread(folder.make)
    part = folder.path / "source.part"
    if await _download(objects, line, part) != checksum:
        raise LostError(DIFFERS)
    part.replace(folder.source)
    await asyncio.to_thread(folder.end_source)


async def bring_arrived(objects: Results, place: str, folder: JobFolder) -> int:
    """Bring what there is of a source that still arrives, unless as much is here; give how much is stored. Raises as above."""
    line = places.chain(await found(objects, place))
    stored = line[-1].end if line else 0
    if stored > folder.source_bytes:
        await asyncio.to_thread(folder.make)
        part = folder.path / "source.part"
        await _download(objects, line, part)
        part.replace(folder.source)
    return stored


async def bring_log(
    objects: Results, place: str, log: Path, kept: Generations, begin: Callable[[Generations], Awaitable[None]]
) -> int:
    """Bring what there is of a log, in place of what is here, as a new generation; give how much of its index that is.

    begin: called with the generations before the log appears. Raises UnavailableError, OSError.
    """
    line = places.log_chain(await found(objects, place), kept)
    part, piece, end = log.with_name("log.part"), log.with_name("piece.part"), 0
    await asyncio.to_thread(shutil.rmtree, part, ignore_errors=True)
    written = Written(part)
    for each in line:
        await _download(objects, [each], piece)
        try:
            await asyncio.to_thread(written.add, piece, each.end - each.start)
        except LogError:  # the rest is made again
            break
        finally:
            piece.unlink()
        end = each.end
    await asyncio.to_thread(_remove, log)
    if end:
        name = name_generation(part)
        await asyncio.to_thread(written.sync)
        await begin([*places.closed(kept, end), (name, None)])
        part.rename(log)
    else:
        await asyncio.to_thread(_remove, part)
    return end


async def _download(objects: Results, line: list[Part], path: Path) -> int:
    """Write what parts hold into a file, and give its CRC-32C."""
    checksum = 0
    with path.open("wb") as file:
        for part in line:
            async for data in objects.read(part.key, 0, part.size):
                await asyncio.to_thread(file.write, data)
                checksum = google_crc32c.extend(checksum, data)
    return checksum


def _remove(path: Path) -> None:
    if path.exists():
        shutil.rmtree(path)
