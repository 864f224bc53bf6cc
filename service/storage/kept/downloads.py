"""Downloads of a job's source and log from the object store into the job's folder on this machine."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path

import google_crc32c

from upres.engine.core.errors import LogError
from upres.engine.segments.folder import PLAN, RANGES
from upres.engine.segments.pieces import PieceWriter
from upres.engine.segments.whole_file import sync_folder
from upres.service.domain.errors import LostError
from upres.service.domain.waiting import in_order
from upres.service.storage.job_folder import JobFolder, remove_tree
from upres.service.storage.results import Results

from . import object_keys
from .copies import checksum, list_parts, name_generation
from .object_keys import Generations, Part

LOST = "the object store has only a part of the source"
DIFFERS = "the source in the object store differs from the one that was stored"


async def download_source(objects: Results, key_prefix: str, folder: JobFolder, size: int, crc32c: int) -> None:
    """Download a complete source. Raises LostError, UnavailableError, OSError if it cannot be written to the local disk."""
    parts = object_keys.source_chain(part for part in await list_parts(objects, key_prefix) if part.end <= size)
    if (parts[-1].end if parts else 0) != size:
        raise LostError(LOST)
    await asyncio.to_thread(folder.make)
    path = folder.path / "source.part"
    if await _download_parts(objects, parts, path) != size or await asyncio.to_thread(checksum, path) != crc32c:
        raise LostError(DIFFERS)
    path.replace(folder.source)
    await asyncio.to_thread(folder.end_source)


async def download_partial_source(objects: Results, key_prefix: str, folder: JobFolder) -> int:
    """Download what is stored of an incomplete source, unless as much is on this machine; return the stored bytes.

    A damaged part and all after it are ignored: the sender has to send them again. Raises UnavailableError, OSError.
    """
    parts = object_keys.source_chain(await list_parts(objects, key_prefix))
    stored = parts[-1].end if parts else 0
    if stored > folder.source_bytes:
        await asyncio.to_thread(folder.make)
        path = folder.path / "source.part"
        stored = await _download_parts(objects, parts, path)
        if stored > folder.source_bytes:
            path.replace(folder.source)
    return stored


async def download_log(
    objects: Results,
    key_prefix: str,
    ranges_prefix: str,
    log: Path,
    kept: Generations,
    begin: Callable[[Generations], Awaitable[None]],
) -> tuple[int, int]:
    """Download what is stored of a log and its ranges, as a new generation that replaces the local log.

    begin: called with the log's generations before the log appears in the folder. Returns the bytes of its index, and the number
    of its ranges. Raises UnavailableError, OSError.
    """
    parts = object_keys.log_chain(await list_parts(objects, key_prefix), kept)
    part, pieces, ranges = log.with_name("log.part"), log.with_name("pieces.part"), 0
    for folder in (part, pieces):
        await asyncio.to_thread(remove_tree, folder)
    pieces.mkdir(parents=True)
    try:
        end = await _assemble_log(objects, parts, pieces, written := PieceWriter(part))
        if end:
            ranges = await _download_ranges(objects, ranges_prefix, part / RANGES, kept, pieces)
    finally:
        await asyncio.to_thread(remove_tree, pieces)
    await asyncio.to_thread(remove_tree, log)
    if end:
        name = name_generation(part)
        await asyncio.to_thread(written.sync)
        await begin([*object_keys.truncated(kept, end), (name, None)])
        part.rename(log)
    else:
        await asyncio.to_thread(remove_tree, part)
    return end, ranges


async def _download_ranges(objects: Results, key_prefix: str, folder: Path, kept: Generations, pieces: Path) -> int:
    """Download the ranges of a log into a folder, each up to its first damaged part; return how many. pieces: for the parts."""
    chains = object_keys.range_chains(await list_parts(objects, key_prefix), kept)
    if chains is None:
        return 0
    plan, ranges = chains
    folder.mkdir()
    if await _download_parts(objects, [plan], folder / PLAN) != plan.size:
        await asyncio.to_thread(remove_tree, folder)  # they cannot be used without a plan, so they are processed again
        return 0
    for name, parts in ranges.items():
        written = PieceWriter(folder / name)
        (pieces / name).mkdir()
        if await _assemble_log(objects, parts, pieces / name, written):
            await asyncio.to_thread(written.sync)
        else:
            await asyncio.to_thread(remove_tree, folder / name)
    await asyncio.to_thread(sync_folder, folder)
    return len(ranges)


async def _assemble_log(objects: Results, parts: list[Part], folder: Path, log: PieceWriter) -> int:
    """Append pieces to a log, downloaded via a folder, up to the first damaged one; return the end of the index in bytes."""
    paths = [folder / str(piece.start) for piece in parts]
    downloads = (_download(objects, piece, path) for piece, path in zip(parts, paths, strict=True))
    end = 0
    async with aclosing(in_order(downloads)) as downloaded:
        for piece, path in zip(parts, paths, strict=True):
            await anext(downloaded)
            try:
                await asyncio.to_thread(log.add, path, piece.end - piece.start)
            except LogError:  # the rest is processed again
                break
            path.unlink()
            end = piece.end
    return end


async def _download_parts(objects: Results, parts: list[Part], path: Path) -> int:
    """Write parts of a source into a file, up to the first damaged one; return the file's size in bytes."""
    await asyncio.to_thread(path.write_bytes, b"")
    async with aclosing(in_order(_download(objects, part, path, part.start) for part in parts)) as sums:
        end = 0
        for part in parts:
            if await anext(sums) != part.crc32c:
                break
            end = part.end
    await asyncio.to_thread(os.truncate, path, end)
    return end


async def _download(objects: Results, part: Part, path: Path, start: int = 0) -> int:
    """Download a part into a file at an offset; return its CRC-32C."""
    value = 0
    path.touch()
    with path.open("r+b") as file:
        file.seek(start)
        async for data in objects.read(part.key, 0, part.size):
            await asyncio.to_thread(file.write, data)
            value = google_crc32c.extend(value, data)
    return value
