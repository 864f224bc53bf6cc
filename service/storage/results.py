"""Where finished results lie: a local folder, S3 or another object store by URL, or memory."""

import asyncio
import logging
import os
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path

import obstore
from obstore.store import LocalStore, MemoryStore, ObjectStore, from_url

from upres.engine.core.errors import SettingsError, TargetError
from upres.service.domain.errors import NotFoundError

STORE_SECONDS = 1.0  # between the first two tries to store a result; then twice as long each time
MOST_STORE_SECONDS = 60.0
AWAY_SECONDS = 86400.0  # the longest that a result waits for its store
CHUNK = 1 << 18  # what a slow reader costs of memory, a few times over
STAGED = "????????-????-????-????-????????????.???#*"  # as the local store writes; it does not list these

logger = logging.getLogger(__name__)


class Results:
    """Objects by key. url: a folder's path, `memory://`, or whatever obstore takes (`s3://bucket/prefix`).

    What `put` has given back can be read, and survives a crash. Raises SettingsError where there can be no such store.
    """

    def __init__(self, url: str) -> None:
        self._folder = None if "://" in url else Path(url).absolute()
        self._store = _store(url, self._folder)

    async def put(self, key: str, path: Path) -> int:
        """Store a file, whole or not at all, and give its size; TargetError where it cannot be stored."""
        try:
            await obstore.put_async(self._store, key, path)
            if self._folder is not None:
                _sync(self._folder / key)
                _sync(self._folder)
            return await self.size(key)
        except (OSError, obstore.exceptions.BaseError) as error:
            raise TargetError(f"the result cannot be stored ({type(error).__name__})") from error

    async def keep(self, key: str, path: Path, wanted: Callable[[], Awaitable[bool]]) -> int:
        """Put a file that took long to make; where the store is away, or full, again later: for a day at most, while wanted."""
        pause, end = STORE_SECONDS, time.monotonic() + AWAY_SECONDS
        while True:
            try:
                return await self.put(key, path)
            except TargetError as error:
                if time.monotonic() > end or not path.exists() or not await wanted():
                    raise
                logger.warning("%s; trying again", error)
            await asyncio.sleep(pause)
            pause = min(2 * pause, MOST_STORE_SECONDS)

    async def size(self, key: str) -> int:
        """Bytes; NotFoundError where there is no such object."""
        try:
            return int((await obstore.head_async(self._store, key))["size"])
        except FileNotFoundError as error:
            raise NotFoundError(f"there is no object {key}") from error

    async def read(self, key: str, start: int = 0, end: int | None = None) -> AsyncGenerator[bytes]:
        """Bytes from `start` to before `end`, in chunks of at least a quarter of a MiB."""
        end = await self.size(key) if end is None else end
        if start >= end:
            return
        found = await obstore.get_async(self._store, key, options={"range": (start, end)})
        async for chunk in found.stream(min_chunk_size=CHUNK):
            yield bytes(chunk)

    async def forget(self, *keys: str) -> None:
        """Remove objects, as far as there are any; one that cannot be removed is left to the next start, which sweeps."""
        for key in keys:
            try:
                await obstore.delete_async(self._store, key)
            except FileNotFoundError:
                continue
            except (OSError, obstore.exceptions.BaseError):
                logger.exception("%s cannot be removed from the result store now", key)

    async def tidy(self) -> None:
        """Remove what a crash left of files that were being stored in a folder; nobody may be storing any."""
        if self._folder is not None:
            for path in self._folder.glob(STAGED):
                path.unlink()

    async def keys(self) -> list[str]:
        """Every object's key; TargetError where the store does not tell."""
        try:
            return [str(found["path"]) async for chunk in obstore.list(self._store) for found in chunk]
        except (OSError, obstore.exceptions.BaseError) as error:
            raise TargetError(f"the result store cannot be listed ({type(error).__name__}); is it there?") from error


def _store(url: str, folder: Path | None) -> ObjectStore:
    try:
        if folder is not None:
            return LocalStore(folder, mkdir=True)
        return MemoryStore() if url == "memory://" else from_url(url)
    except (OSError, ValueError, obstore.exceptions.BaseError) as error:
        raise SettingsError(f"results cannot be kept in {url} ({type(error).__name__})") from error


def _sync(path: Path) -> None:
    """The object store's own writing ends before the disk has the bytes."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def keys(request_id: str) -> tuple[str, str]:
    """What a job's joined file and its picture are called in the result store."""
    return f"{request_id}.mp4", f"{request_id}.jpg"
