"""Where finished results lie, or whole jobs: a local folder, S3 or another object store by URL, or memory."""

import asyncio
import logging
import os
import shutil
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit
from urllib.request import url2pathname

import obstore
from obstore.store import LocalStore, MemoryStore, ObjectStore, from_url

from upres.engine.core.errors import SettingsError, TargetError
from upres.service.domain.errors import NotFoundError, UnavailableError

STORE_SECONDS = 1.0  # between the first two tries to store a result; then twice as long each time
MOST_STORE_SECONDS = 60.0
AWAY_SECONDS = 86400.0  # the longest that a result waits for its store
CHUNK = 1 << 18  # what a slow reader costs of memory, a few times over
SMALL = 5 << 20  # bytes that are stored at once
PARTS = 4  # of 5 MiB each, that are on their way at once of one file, and in memory
ANSWER_SECONDS = 20.0  # the longest that somebody who reads or removes waits for the store to answer
LISTED = 1000  # objects that are listed at once: as many as a request of S3 gives
REMOVED = 100  # objects that are removed at once
READ_TRIES = 4  # in a row without a byte, before a result is taken for one that cannot be read now
READ_PAUSE = 0.5  # seconds before the second of them; then twice as long each time
STAGED = "????????-????-????-????-????????????.???#*"  # as the local store writes; it does not list these

T = TypeVar("T")

logger = logging.getLogger(__name__)


class Results:
    """Objects by key. url: a folder's path, `memory://`, or what obstore takes (`s3://bucket/prefix`). noun: what they are.

    What `put` has returned for can be read, and survives a crash. Raises SettingsError where there can be no such store.
    """

    def __init__(self, url: str, noun: str = "result") -> None:
        self._noun = noun
        self._folder = _local(url)
        self._store = _store(url, self._folder, noun)
        self._writes: dict[str, asyncio.Task[int]] = {}  # by key

    @property
    def remote(self) -> bool:
        """Report whether results lie elsewhere than on this machine's disks."""
        return self._folder is None

    async def put(self, key: str, path: Path) -> int:
        """Store a file, whole or not at all, and give its size; TargetError where it cannot be stored."""
        return await self._put(key, path, lambda: path.stat().st_size)

    async def write(self, key: str, chunks: Callable[[], Iterator[bytes]], size: int) -> None:
        """Store bytes, all of them or none; as `put`. Few are one request. Raises what `chunks` does, TargetError for OSError."""
        self._writes[key] = write = asyncio.create_task(self._written(key, chunks, size))
        try:
            await write
        finally:
            self._writes.pop(key, None)

    async def _written(self, key: str, chunks: Callable[[], Iterator[bytes]], size: int) -> int:
        if size > SMALL:
            return await self._put(key, chunks(), lambda: size)
        try:
            data = await asyncio.to_thread(lambda: b"".join(chunks()))
        except OSError as error:
            raise TargetError(f"what is to be stored cannot be read ({error.strerror})") from error
        return await self._put(key, data, lambda: size)

    async def _put(self, key: str, source: Path | bytes | Iterator[bytes], count: Callable[[], int]) -> int:
        try:
            await obstore.put_async(self._store, key, source, max_concurrency=PARTS)
            if self._folder is not None:
                await asyncio.to_thread(_sync, self._folder / key, self._folder)
            stored, size = await self._head(key), count()
        except (OSError, obstore.exceptions.BaseError) as error:
            raise TargetError(f"the {self._noun} cannot be stored ({type(error).__name__})") from error
        if stored != size:
            raise TargetError(f"the {self._noun} cannot be stored: the store has {stored} of its {size} bytes")
        return stored

    async def keep(self, key: str, path: Path, wanted: Callable[[], Awaitable[bool]]) -> int:
        """Put a file that took long to make; where the store is away, or full, again later: for a day at most, while wanted."""

        async def still_wanted() -> bool:
            return path.exists() and await wanted()

        return await for_a_day(partial(self.put, key, path), still_wanted)

    async def size(self, key: str) -> int:
        """Give an object's bytes; NotFoundError where there is none of this key, UnavailableError where the store does not say."""
        try:
            return await self._head(key)
        except FileNotFoundError as error:
            raise NotFoundError(f"there is no object {key}") from error
        except (OSError, obstore.exceptions.BaseError) as error:
            raise UnavailableError(
                f"the {self._noun} store does not answer ({type(error).__name__}); try again later"
            ) from error

    async def read(self, key: str, start: int = 0, end: int | None = None) -> AsyncGenerator[bytes]:
        """Yield bytes from `start` to before `end`, in chunks of at least a quarter of a MiB.

        Where the store breaks off, or the reader is slower than a request may last, the rest is asked for. UnavailableError where
        none comes.
        """
        end = await self.size(key) if end is None else end
        failed = 0
        while start < end:
            why: Exception | None = None
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    response = await obstore.get_async(self._store, key, options={"range": (start, end)})
                async for chunk in response.stream(min_chunk_size=CHUNK):
                    start, failed = start + len(chunk), -1
                    yield bytes(chunk)
            except (OSError, obstore.exceptions.BaseError) as error:
                why = error
            failed += 1
            if start < end and failed >= READ_TRIES:
                raise UnavailableError(
                    f"the {self._noun} store gives no more of a {self._noun}; try again later"
                ) from why
            if start < end:
                await asyncio.sleep(READ_PAUSE * 2**failed)

    async def _head(self, key: str) -> int:
        async with asyncio.timeout(ANSWER_SECONDS):
            return int((await obstore.head_async(self._store, key))["size"])

    async def remove(self, *keys: str) -> None:
        """Remove objects, as far as there are any; TargetError names those that cannot be removed now."""
        problems = [problem for problem in await asyncio.gather(*map(self._removed, keys)) if problem is not None]
        if problems:
            raise TargetError(f"the {self._noun} store does not remove {', '.join(problems)}")

    async def _removed(self, key: str) -> str | None:
        """Remove an object; return which cannot be removed, and why."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await obstore.delete_async(self._store, key)
        except FileNotFoundError:
            return None
        except (OSError, obstore.exceptions.BaseError) as error:
            return f"{key} ({type(error).__name__})"
        return None

    async def clear(self, place: str) -> None:
        """Remove all that lies in a place, a prefix that ends with a slash, and what is being written there.

        TargetError where that cannot be done now.
        """
        if writes := [write for key, write in self._writes.items() if key.startswith(place)]:
            _, left = await asyncio.wait(writes, timeout=ANSWER_SECONDS)
            if left:  # each of them may still become an object
                raise TargetError(f"{len(left)} parts are still on their way into the {self._noun} store")
        try:
            keys = [key for key, _ in await self.listed(place)]
            for at in range(0, len(keys), REMOVED):
                await self.remove(*keys[at : at + REMOVED])
            if self._folder is not None:
                await asyncio.to_thread(
                    shutil.rmtree, self._folder / place, ignore_errors=True
                )  # folders without files
        except UnavailableError as error:
            raise TargetError(str(error)) from error

    async def listed(self, place: str) -> list[tuple[str, int]]:
        """List the key and size of each object in a place; UnavailableError where the store does not answer."""
        objects: list[tuple[str, int]] = []
        try:
            pages = aiter(obstore.list(self._store, place, chunk_size=LISTED))
            while True:
                async with asyncio.timeout(ANSWER_SECONDS):  # each of them is a request
                    page = await anext(pages, None)
                if page is None:
                    return objects
                objects += ((str(entry["path"]), int(entry["size"])) for entry in page)
        except (OSError, obstore.exceptions.BaseError) as error:
            raise UnavailableError(
                f"the {self._noun} store does not answer ({type(error).__name__}); try again later"
            ) from error

    async def check(self, prefix: str) -> None:
        """Raise TargetError where the store does not answer. Costs the same however much lies there."""
        try:
            async for _ in obstore.list(self._store, prefix, chunk_size=1):
                break
        except (OSError, obstore.exceptions.BaseError) as error:
            raise TargetError(
                f"the {self._noun} store does not answer ({type(error).__name__}); is it there?"
            ) from error

    async def tidy(self, prefix: str, idle_seconds: float = 0.0) -> None:
        """Remove what a crash left of files that were being stored under a prefix, and that nobody has written to for so long."""
        if self._folder is not None:
            before = time.time() - idle_seconds
            for path in (self._folder / prefix).glob(STAGED):
                with suppress(FileNotFoundError):  # stored, or removed, meanwhile
                    if not idle_seconds or path.stat().st_mtime < before:
                        path.unlink()

    async def keys(self) -> list[str]:
        """List every object's key."""
        return [key for key, _ in await self.listed("")]


async def for_a_day(step: Callable[[], Awaitable[T]], wanted: Callable[[], Awaitable[bool]]) -> T:
    """Store what took long to make: where the store is away, again later, for a day at most, while wanted. Raises TargetError."""
    pause, end = STORE_SECONDS, time.monotonic() + AWAY_SECONDS
    while True:
        try:
            return await step()
        except (TargetError, UnavailableError) as error:
            if time.monotonic() > end or not await wanted():
                raise TargetError(str(error)) from error
            logger.warning("%s; trying again in %g s, for a day at the most", error, pause)
        await asyncio.sleep(pause)
        pause = min(2 * pause, MOST_STORE_SECONDS)


def _local(url: str) -> Path | None:
    """Give the folder that a URL, or a path, names; None where it is none on this machine."""
    if url.startswith("file://"):
        return Path(url2pathname(urlsplit(url).path)).absolute()
    return None if "://" in url else Path(url).absolute()


def _store(url: str, folder: Path | None, noun: str) -> ObjectStore:
    try:
        if folder is not None:
            return LocalStore(folder, mkdir=True)
        return MemoryStore() if url == "memory://" else from_url(url)
    except (OSError, ValueError, obstore.exceptions.BaseError) as error:
        raise SettingsError(f"{noun}s cannot be kept in {url} ({type(error).__name__})") from error


def _sync(path: Path, root: Path) -> None:
    """Wait until the disk has a file and the folders that it is named in: the object store's own writing ends before."""
    for place in (path, *path.parents):
        descriptor = os.open(place, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if place == root:
            return


def file_names(request_id: str) -> tuple[str, str]:
    """Name a job's joined file and its picture, as they stand in links."""
    return f"{request_id}.mp4", f"{request_id}.jpg"


def keys(prefix: str, request_id: str) -> tuple[str, str]:
    """Give the keys of a job's joined file and its picture in the result store. prefix: the job's, of the server that made it."""
    video, picture = file_names(request_id)
    return prefix + video, prefix + picture
