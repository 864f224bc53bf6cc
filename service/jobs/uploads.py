"""Sources that are still arriving: written to their jobs' folders, within a size, and not waited for for ever."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from upres.service.domain.errors import OffsetError, TooLargeError
from upres.service.domain.states import TransitionError
from upres.service.storage.job_folder import JobFolder

NO_MORE = "the job takes no more of its source: it has all of it, or has ended"


class Intake:
    """root: the folder of the jobs' folders. largest: bytes of one source. idle_seconds: how long a sender may be silent."""

    def __init__(self, root: Path, *, largest: int, idle_seconds: float) -> None:
        self._root = root
        self._largest = largest
        self._idle_seconds = idle_seconds
        self._heard: dict[str, float] = {}
        self._calls: Counter[str] = Counter()

    def folder(self, request_id: str) -> JobFolder:
        """Where a job's files lie."""
        return JobFolder(self._root / request_id)

    async def expect(self, request_id: str) -> None:
        """From now on a job's source may come."""
        await asyncio.to_thread(self.folder(request_id).make)
        self._heard[request_id] = time.monotonic()

    def close(self, request_id: str) -> None:
        """No more of a source is taken."""
        self._heard.pop(request_id, None)

    async def write(self, request_id: str, offset: int, data: bytes) -> int:
        """Add to a source; how many bytes are here then. Bytes that are here already are passed over.

        Raises OffsetError where bytes before these are missing, TooLargeError over the limit, TransitionError where no more
        is taken.
        """
        if request_id not in self._heard:
            raise TransitionError(NO_MORE)
        self._heard[request_id] = time.monotonic()
        folder = self.folder(request_id)
        have = folder.source_bytes
        if offset > have:
            raise OffsetError(f"bytes at offset {offset} came, {have} was expected; go on from there")
        if offset + len(data) > self._largest:
            raise TooLargeError(f"The source must not be larger than {self._largest} bytes.")
        fresh = data[have - offset :]
        if fresh:
            try:
                await asyncio.to_thread(folder.append, have, fresh)
            except FileNotFoundError as error:  # it ended meanwhile
                raise TransitionError(NO_MORE) from error
        return have + len(fresh)

    @contextmanager
    def sending(self, request_id: str) -> Iterator[None]:
        """While a call sends a source, and bounds its silence itself, the job is not silent; behind it the time begins anew."""
        self._calls[request_id] += 1
        try:
            yield
        finally:
            self._calls -= Counter([request_id])
            if request_id in self._heard:
                self._heard[request_id] = time.monotonic()

    def waits(self, request_id: str, seconds: float) -> bool:
        """Whether more of a source is to come, and none has for so long."""
        return request_id in self._heard and self._heard[request_id] < time.monotonic() - seconds

    def silent(self) -> list[str]:
        """Jobs whose sender has said nothing for too long."""
        oldest = time.monotonic() - self._idle_seconds
        return [name for name, heard in self._heard.items() if heard < oldest and not self._calls[name]]
