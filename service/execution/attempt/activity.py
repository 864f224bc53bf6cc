"""Liveness of an attempt: bytes of the source read for the first time, frames processed, bytes written.

Code in an endless loop, or that reads the same bytes repeatedly, changes none of these, regardless of the CPU time that it uses.
The worker ends an attempt that has not reported for long, so only a change in these figures is reported.
"""

import errno
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from upres.engine.pipeline.progress import Progress

REPORT_SECONDS = 1.0


class ReadAhead:
    """A seekable file that records how far it was read. furthest: largest offset read, in bytes."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.furthest = 0

    def read(self, size: int = -1, /) -> bytes:
        """Read at most `size` bytes."""
        data = self._file.read(size)
        self.furthest = max(self.furthest, self._file.tell())
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Seek to an offset; return -EINVAL if it is invalid, as libavformat's own files do: damaged sources may request it."""
        try:
            return self._file.seek(offset, whence)
        except (OSError, ValueError, OverflowError):
            return -errno.EINVAL

    def tell(self) -> int:
        """Return the offset of the next byte."""
        return self._file.tell()

    def seekable(self) -> bool:
        """Return True: it can be read in any order."""
        return True


class Activity:
    """Reports that an attempt makes progress. folder: its output folder. read: returns the bytes of the source read so far.

    report: callback, called at most once a second from a separate thread. waiting: whether the attempt waits for another process.
    """

    def __init__(
        self,
        folder: Path,
        progress: Progress,
        report: Callable[[], None],
        waiting: Callable[[], bool] = lambda: False,
    ) -> None:
        self.read: Callable[[], int] = lambda: 0
        self._folder = folder
        self._progress = progress
        self._report = report
        self._waiting = waiting
        self._ended = threading.Event()

    @contextmanager
    def reported(self) -> Iterator[None]:
        """Report progress while the context is active."""
        thread = threading.Thread(target=self._keep_reporting, name="activity", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()

    @contextmanager
    def excused(self) -> Iterator[None]:
        """Report unconditionally while the context is active: the attempt waits for processes that are watched themselves."""
        before, self._waiting = self._waiting, lambda: True
        try:
            yield
        finally:
            self._waiting = before

    def _keep_reporting(self) -> None:
        before = self._figures()
        while not self._ended.wait(REPORT_SECONDS):
            now = self._figures()
            if now != before or self._waiting():
                try:
                    self._report()
                except OSError:
                    return  # the worker is gone, and this process will end with it
            before = now

    def _figures(self) -> tuple[int, int, int, int]:
        return self.read(), self._progress.frames_in, self._progress.frames_out, _bytes_in(self._folder)


def _bytes_in(folder: Path) -> int:
    """Return the total size of all files under a folder; files that disappear meanwhile are skipped."""
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            try:
                total += (Path(path) / name).stat().st_size
            except FileNotFoundError:
                continue
    return total
