"""A source that is still being written to a job's folder."""

import time
from collections.abc import Callable

from upres.service.storage.job_folder import JobFolder

POLL_SECONDS = 0.02  # between two checks for more data
REPORT_SECONDS = 1.0  # between two reports that the attempt waits


class GrowingSource:
    """A growing file: reads wait for bytes until the folder reports that the source is complete.

    waiting: callback, called at intervals while no byte arrives. furthest: bytes read so far.
    """

    def __init__(self, folder: JobFolder, waiting: Callable[[], None]) -> None:
        self._folder = folder
        self._waiting = waiting
        self._file = folder.source.open("rb")
        self._reported = time.monotonic()
        self.furthest = 0

    def read(self, size: int = 65536, /) -> bytes:
        """Read at most `size` bytes; empty at the end. The worker's stall time limits the wait."""
        while True:
            whole = self._folder.is_source_complete
            if (data := self._file.read(size)) or whole:
                self.furthest += len(data)
                return data
            time.sleep(POLL_SECONDS)
            if time.monotonic() - self._reported > REPORT_SECONDS:
                self._reported = time.monotonic()
                self._waiting()

    def close(self) -> None:
        """Close the file."""
        self._file.close()
