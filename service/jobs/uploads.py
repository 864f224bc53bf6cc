"""Upload sessions: sources written into job folders as they arrive, with limits on size, disk space and idle time."""

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

NO_MORE = "the job accepts no more of its source: the source is complete, or the job has ended"
DISK_FULL = "the disk is almost full; the bytes received so far are kept, continue from there later"


class Intake:
    """Upload sessions of one server, by request_id.

    root: parent of the job folders. largest: maximum bytes of a source. idle_seconds: longest pause of a sender.
    free_bytes: disk space to leave free. on_bytes: called with the request_id after bytes of its source were written.
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
        self._last_received: dict[str, float] = {}
        self._calls: Counter[str] = Counter()

    def folder(self, request_id: str) -> JobFolder:
        """Return the folder of a job."""
        return JobFolder(self._root / request_id)

    def can_hold(self, size: int) -> bool:
        """Report whether the disk has room for `size` bytes in addition to what must stay free."""
        return shutil.disk_usage(self._root).free >= size + self._free_bytes

    def has_room(self, size: int = 0) -> bool:
        """Report whether an upload of `size` bytes fits on the disk of the job folders and on the disk where it is spooled."""
        return shutil.disk_usage(tempfile.gettempdir()).free >= size and self.can_hold(size)

    async def expect(self, request_id: str) -> None:
        """Open an upload session. Raises StoreError if the job's folder cannot be created."""
        self.watch(request_id)
        with _store_errors():
            await asyncio.to_thread(self.folder(request_id).make)

    def watch(self, request_id: str) -> None:
        """Start the idle timeout of a job's source, and accept its bytes."""
        self._last_received[request_id] = time.monotonic()

    async def accept_file(self, request_id: str, path: Path) -> None:
        """Accept a source that is a complete file; the file is moved into the job's folder."""
        await self.expect(request_id)
        with _store_errors():
            path.replace(self.folder(request_id).source)

    async def end(self, request_id: str) -> None:
        """Mark a source as complete. If that fails, the sender may retry within the idle timeout."""
        self.close(request_id)
        try:
            with _store_errors():
                await asyncio.to_thread(self.folder(request_id).end_source)
        except StoreError:
            self.watch(request_id)
            raise

    @property
    def expected(self) -> Collection[str]:
        """The jobs with an open upload session."""
        return self._last_received.keys()

    def close(self, request_id: str) -> None:
        """Close an upload session."""
        self._last_received.pop(request_id, None)

    async def write(self, request_id: str, offset: int, data: bytes) -> int:
        """Append a chunk to a source; return its new size in bytes. Bytes that were received before are skipped.

        Raises OffsetError if bytes before `offset` are missing, TooLargeError above the limit, TransitionError if the session is
        closed, DiskFullError.
        """
        if request_id not in self._last_received:
            raise TransitionError(NO_MORE)
        self._last_received[request_id] = time.monotonic()
        folder = self.folder(request_id)
        have = folder.source_bytes
        if offset > have:
            raise OffsetError(f"received bytes at offset {offset}, expected {have}; continue from there")
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
        """Suspend the idle timeout while a call sends a source and limits its pauses itself; it restarts afterwards."""
        self._calls[request_id] += 1
        try:
            yield
        finally:
            self._calls -= Counter([request_id])
            if request_id in self._last_received:
                self._last_received[request_id] = time.monotonic()

    def idle_seconds(self, request_id: str) -> float:
        """Return the seconds since the last bytes of an incomplete source arrived; 0 if the source is complete."""
        received = self._last_received.get(request_id)
        return 0.0 if received is None else time.monotonic() - received

    def idle(self) -> list[str]:
        """List the jobs whose sender has exceeded the idle timeout."""
        oldest = time.monotonic() - self._idle_seconds
        return [name for name, received in self._last_received.items() if received < oldest and not self._calls[name]]


@contextmanager
def _store_errors() -> Iterator[None]:
    """Convert file system errors to StoreError.

    A full disk becomes a DiskFullError. A missing folder means that the job has ended, and becomes a TransitionError.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise TransitionError(NO_MORE) from error
    except OSError as error:
        if error.errno in NO_SPACE:
            raise DiskFullError(DISK_FULL) from error
        raise StoreError(f"the source cannot be written ({error.strerror})") from error
