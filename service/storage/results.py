"""Object store for results, or for jobs' sources and logs: a local folder, S3 or another store by URL, or memory."""

import asyncio
import logging
import os
import shutil
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing, suppress
from functools import partial
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit
from urllib.request import url2pathname

import obstore
from obstore.store import LocalStore, MemoryStore, ObjectStore, from_url

from upres.engine.core.errors import SettingsError, TargetError
from upres.service.domain.errors import NotFoundError, UnavailableError

STORE_SECONDS = 1.0  # delay before the first retry of storing a result; doubled for each further retry
MOST_STORE_SECONDS = 60.0
RETRY_LIMIT_SECONDS = 86400.0  # after which storing a result is given up
CHUNK = 1 << 18  # minimum bytes of a chunk; a slow reader costs a few times as much memory
SMALL = 5 << 20  # bytes up to which an object is stored with one request
PARTS = 4  # parts of 5 MiB of one file that are uploaded concurrently, and held in memory
ANSWER_SECONDS = 20.0  # timeout of requests that read, list or remove
LISTED = 1000  # objects per page of a listing: the maximum of S3
REMOVED = 100  # objects that are removed concurrently
READ_TRIES = 4  # consecutive attempts without a byte after which a result is considered unreadable
READ_PAUSE = 0.5  # seconds before the second attempt; doubled for each further one
STAGED = (
    "????????-????-????-????-????????????.???#*"  # the local store's names of partial files, which it does not list
)

T = TypeVar("T")

logger = logging.getLogger(__name__)


class Results:
    """Objects by key. url: a folder's path, `memory://`, or a URL of obstore (`s3://bucket/prefix`). noun: for messages.

    Once `put` has returned, the object can be read and survives a crash. Raises SettingsError if the store cannot be opened.
    """

    def __init__(self, url: str, noun: str = "result") -> None:
        self._noun = noun
        self._folder = _local(url)
        self._store = _store(url, self._folder, noun)
        self._writes: dict[str, asyncio.Task[int]] = {}  # running writes by key

    @property
    def remote(self) -> bool:
        """Report whether the store is not on this machine's disks."""
        return self._folder is None

    async def put(self, key: str, path: Path) -> int:
        """Store a file atomically; return its size in bytes. Raises TargetError."""
        return await self._put(key, path, lambda: path.stat().st_size)

    async def write(self, key: str, chunks: Callable[[], Iterator[bytes]], size: int) -> None:
        """Store bytes atomically, with the guarantees of `put`. Small objects take one request.

        Raises TargetError, also for an OSError of `chunks`, and any other error of `chunks`.
        """
        self._writes[key] = write = asyncio.create_task(self._write(key, chunks, size))
        try:
            await write
        finally:
            self._writes.pop(key, None)

    async def _write(self, key: str, chunks: Callable[[], Iterator[bytes]], size: int) -> int:
        if size > SMALL:
            return await self._put(key, chunks(), lambda: size)
        try:
            data = await asyncio.to_thread(lambda: b"".join(chunks()))
        except OSError as error:
            raise TargetError(f"the data to be stored cannot be read ({error.strerror})") from error
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

    async def put_with_retry(self, key: str, path: Path, is_needed: Callable[[], Awaitable[bool]]) -> int:
        """Store a file that is expensive to recreate, with retries for up to a day, while `is_needed` returns True."""

        async def still_needed() -> bool:
            return path.exists() and await is_needed()

        return await retry_for_a_day(partial(self.put, key, path), still_needed)

    async def size(self, key: str) -> int:
        """Return the size of an object in bytes. Raises NotFoundError, UnavailableError if the store does not respond."""
        try:
            return await self._head(key)
        except FileNotFoundError as error:
            raise NotFoundError(f"there is no object {key}") from error
        except (OSError, obstore.exceptions.BaseError) as error:
            raise UnavailableError(
                f"the {self._noun} store does not respond ({type(error).__name__}); try again later"
            ) from error

    async def read(self, key: str, start: int = 0, end: int | None = None) -> AsyncGenerator[bytes]:
        """Yield bytes from `start` (inclusive) to `end` (exclusive), in chunks of at least a quarter of a MiB.

        If the connection is lost, or the reader is slower than a request may last, the rest is requested again. Raises
        UnavailableError after READ_TRIES attempts without data.
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
                    f"the {self._noun} store does not return the rest of a {self._noun}; try again later"
                ) from why
            if start < end:
                await asyncio.sleep(READ_PAUSE * 2**failed)

    async def _head(self, key: str) -> int:
        async with asyncio.timeout(ANSWER_SECONDS):
            return int((await obstore.head_async(self._store, key))["size"])

    async def remove(self, *keys: str) -> None:
        """Remove objects; missing ones are ignored. Raises TargetError naming those that cannot be removed now."""
        problems: list[str] = []
        for at in range(0, len(keys), REMOVED):
            removed = await asyncio.gather(*map(self._remove_one, keys[at : at + REMOVED]))
            problems += [problem for problem in removed if problem is not None]
        if problems:
            raise TargetError(f"the {self._noun} store cannot remove {', '.join(problems)}")

    async def _remove_one(self, key: str) -> str | None:
        """Remove an object; return its key and the error if it cannot be removed, otherwise None."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await obstore.delete_async(self._store, key)
        except FileNotFoundError:
            return None
        except (OSError, obstore.exceptions.BaseError) as error:
            return f"{key} ({type(error).__name__})"
        return None

    async def clear(self, prefix: str) -> None:
        """Remove all objects under a prefix that ends with a slash, including those being written.

        Raises TargetError if that is impossible now.
        """
        if writes := [write for key, write in self._writes.items() if key.startswith(prefix)]:
            _, unfinished = await asyncio.wait(writes, timeout=ANSWER_SECONDS)
            if unfinished:  # each of them may still become an object
                raise TargetError(f"{len(unfinished)} parts are still being written to the {self._noun} store")
        try:
            await self.remove(*[key for key, _ in await self.list_objects(prefix)])
            if self._folder is not None:  # remove the empty folders too
                await asyncio.to_thread(shutil.rmtree, self._folder / prefix, ignore_errors=True)
        except UnavailableError as error:
            raise TargetError(str(error)) from error

    async def list_objects(self, prefix: str, after: str | None = None) -> list[tuple[str, int]]:
        """List the key and size of each object under a prefix. Raises UnavailableError if the store does not respond.

        after: list only objects whose keys sort after this one; S3 and GCS then skip the others.
        """
        objects: list[tuple[str, int]] = []
        async with aclosing(self._pages(prefix, after, LISTED)) as pages:
            async for page in pages:
                objects += page
        return objects

    async def is_empty(self, prefix: str) -> bool:
        """Report whether no object exists under a prefix, with one request. Raises UnavailableError."""
        async with aclosing(self._pages(prefix, None, 1)) as pages:
            return not await anext(pages, None)

    async def _pages(self, prefix: str, after: str | None, size: int) -> AsyncGenerator[list[tuple[str, int]]]:
        """Yield keys and sizes of objects, at most `size` at a time."""
        try:
            pages = aiter(obstore.list(self._store, prefix, offset=after, chunk_size=size))
            while True:
                async with asyncio.timeout(ANSWER_SECONDS):  # each page is a request
                    page = await anext(pages, None)
                if page is None:
                    return
                yield [(str(entry["path"]), int(entry["size"])) for entry in page]
        except (OSError, obstore.exceptions.BaseError) as error:
            raise UnavailableError(
                f"the {self._noun} store does not respond ({type(error).__name__}); try again later"
            ) from error

    async def check(self, prefix: str) -> None:
        """Raise TargetError if the store does not respond. The cost does not depend on the number of objects."""
        try:
            async for _ in obstore.list(self._store, prefix, chunk_size=1):
                break
        except (OSError, obstore.exceptions.BaseError) as error:
            raise TargetError(
                f"the {self._noun} store does not respond ({type(error).__name__}); check that it exists and is reachable"
            ) from error

    async def tidy(self, prefix: str, idle_seconds: float = 0.0) -> None:
        """Remove partial files that a crash left under a prefix and that were not written for `idle_seconds`."""
        if self._folder is not None:
            before = time.time() - idle_seconds
            for path in (self._folder / prefix).glob(STAGED):
                with suppress(FileNotFoundError):  # stored or removed in the meantime
                    if not idle_seconds or path.stat().st_mtime < before:
                        path.unlink()

    async def keys(self) -> list[str]:
        """List the keys of all objects."""
        return [key for key, _ in await self.list_objects("")]


async def retry_for_a_day(step: Callable[[], Awaitable[T]], is_needed: Callable[[], Awaitable[bool]]) -> T:
    """Call `step` until it succeeds, with back-off, for up to a day, while `is_needed` returns True. Raises TargetError.

    For data that is expensive to recreate, while the store is unavailable or full.
    """
    pause, end = STORE_SECONDS, time.monotonic() + RETRY_LIMIT_SECONDS
    while True:
        try:
            return await step()
        except (TargetError, UnavailableError) as error:
            if time.monotonic() > end or not await is_needed():
                raise TargetError(str(error)) from error
            logger.warning("%s; retrying in %g s, for up to a day", error, pause)
        await asyncio.sleep(pause)
        pause = min(2 * pause, MOST_STORE_SECONDS)


def _local(url: str) -> Path | None:
    """Return the local folder that a URL or path names; None if it is remote or in memory."""
    if url.startswith("file://"):
        return Path(url2pathname(urlsplit(url).path)).absolute()
    return None if "://" in url else Path(url).absolute()


def _store(url: str, folder: Path | None, noun: str) -> ObjectStore:
    try:
        if folder is not None:
            return LocalStore(folder, mkdir=True)
        return MemoryStore() if url == "memory://" else from_url(url)
    except (OSError, ValueError, obstore.exceptions.BaseError) as error:
        raise SettingsError(f"{noun}s cannot be stored in {url} ({type(error).__name__})") from error


def _sync(path: Path, root: Path) -> None:
    """Flush a file and its parent folders up to `root` to disk, which obstore's local store does not do."""
    for place in (path, *path.parents):
        descriptor = os.open(place, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if place == root:
            return


def file_names(request_id: str) -> tuple[str, str]:
    """Return the file names of a job's joined file and its preview image, as used in links."""
    return f"{request_id}.mp4", f"{request_id}.jpg"


def keys(prefix: str, request_id: str) -> tuple[str, str]:
    """Return the keys of a job's joined file and its preview image in the result store. prefix: `Job.result_prefix`."""
    video, picture = file_names(request_id)
    return prefix + video, prefix + picture
