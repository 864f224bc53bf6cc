"""Sources that are still arriving: written to their jobs' folders, within a size and the disk's room; pauses are measured."""

import asyncio
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from upres.engine.core.errors import NO_SPACE
from upres.service.domain.errors import DiskFullError, OffsetError, StoreError, TooLargeError
from upres.service.domain.states import TransitionError
from upres.service.storage.job_folder import JobFolder

NO_MORE = "the job takes no more of its source: it has all of it, or has ended"
DISK_FULL = "the disk is almost full; what came is kept, continue from there later"


class Intake:
    """root: the folder of the jobs' folders. largest: bytes of one source. idle_seconds: the longest that a sender may pause.

    free_bytes: what stays free on the disk. on_bytes: called with the job whenever bytes of its source have come.
    """

    def __init__(
        self,
        root: Path,
        *,
        largest: int,
        idle_seconds: float,
        free_bytes: int = 0,
        on_bytes: Callable[[str], None] = lambda request_id: None,
    ) -> None:
        self._root = root
        self._largest = largest
        self._idle_seconds = idle_seconds
        self._free_bytes = free_bytes
        self._on_bytes = on_bytes
        self._heard: dict[str, float] = {}
        self._calls: Counter[str] = Counter()

    def folder(self, request_id: str) -> JobFolder:
        """Locate a job's files."""
        return JobFolder(self._root / request_id)

    def can_hold(self, size: int) -> bool:
        """Report whether the disk has so much room beside what must stay free."""
        return shutil.disk_usage(self._root).free >= size + self._free_bytes

    def has_room(self, size: int = 0) -> bool:
        """Report whether an upload of so many bytes can come: the disk can hold it, and the one where it is spooled as well."""
        return shutil.disk_usage(tempfile.gettempdir()).free >= size and self.can_hold(size)

    async def expect(self, request_id: str) -> None:
        """Take a job's source from now on. StoreError where its folder cannot be made: then no source comes."""
        self.watch(request_id)
        with _store_errors():
            await asyncio.to_thread(self.folder(request_id).make)

    def watch(self, request_id: str) -> None:
        """Wait for a job's source from now on, for as long as a sender may pause."""
        self._heard[request_id] = time.monotonic()

    async def take(self, request_id: str, path: Path) -> None:
        """Take a source that lies in a file, which is moved away."""
        await self.expect(request_id)
        with _store_errors():
            path.replace(self.folder(request_id).source)

    async def end(self, request_id: str) -> None:
        """Mark a source as whole. Where that fails, its sender may try again, and is not waited for indefinitely."""
        self.close(request_id)
        try:
            with _store_errors():
                await asyncio.to_thread(self.folder(request_id).end_source)
        except StoreError:
            self.watch(request_id)
            raise

    @property
    def expected(self) -> Collection[str]:
        """The jobs whose source is to come."""
        return self._heard.keys()

    def close(self, request_id: str) -> None:
        """Take no more of a source."""
        self._heard.pop(request_id, None)

    async def write(self, request_id: str, offset: int, data: bytes) -> int:
        """Add to a source; give how many bytes are here then. Bytes that are here already are skipped.

        Raises OffsetError where bytes before these are missing, TooLargeError over the limit, TransitionError where no more
        is taken, DiskFullError.
        """
        if request_id not in self._heard:
            raise TransitionError(NO_MORE)
        self._heard[request_id] = time.monotonic()
        folder = self.folder(request_id)
        have = folder.source_bytes
        if offset > have:
            raise OffsetError(f"bytes at offset {offset} came, {have} was expected; continue from there")
        if offset + len(data) > self._largest:
            raise TooLargeError(f"The source must not be larger than {self._largest} bytes.")
        fresh = data[have - offset :]
        if fresh:
            await asyncio.to_thread(self._append, folder, have, fresh)
            self._on_bytes(request_id)
        return have + len(fresh)

    def _append(self, folder: JobFolder, offset: int, data: bytes) -> None:
        if shutil.disk_usage(self._root).free - len(data) < self._free_bytes:
            raise DiskFullError(DISK_FULL)
        with _store_errors():
            folder.append(offset, data)

    @contextmanager
    def sending(self, request_id: str) -> Iterator[None]:
        """While a call sends a source, and limits its pauses itself, the job is not idle; behind it the time restarts."""
        self._calls[request_id] += 1
        try:
            yield
        finally:
            self._calls -= Counter([request_id])
            if request_id in self._heard:
                self._heard[request_id] = time.monotonic()

    def idle_seconds(self, request_id: str) -> float:
        """Give the seconds since bytes of a source came, of which more is to come; 0 where all is here."""
        heard = self._heard.get(request_id)
        return 0.0 if heard is None else time.monotonic() - heard

    def idle(self) -> list[str]:
        """List the jobs whose sender has paused for too long."""
        oldest = time.monotonic() - self._idle_seconds
        return [name for name, heard in self._heard.items() if heard < oldest and not self._calls[name]]


@contextmanager
def _store_errors() -> Iterator[None]:
    """Raise what the file system refuses as a StoreError, of no room as a DiskFullError; no folder means that the job has ended."""
    try:
        yield
    except FileNotFoundError as error:
        raise TransitionError(NO_MORE) from error
    except OSError as error:
        if error.errno in NO_SPACE:
            raise DiskFullError(DISK_FULL) from error
        raise StoreError(f"the source cannot be kept ({error.strerror})") from error
