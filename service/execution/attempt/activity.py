"""What shows that an attempt gets on: bytes read for the first time, frames, bytes written.

Code that loops, or reads the same bytes again and again, moves none of them, whatever it burns. The worker ends an attempt that
it has not heard of for long, so what moves is reported, and nothing else.
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
    """A seekable file that knows how far it was read. furthest: bytes from its beginning."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.furthest = 0

    def read(self, size: int = -1, /) -> bytes:
        """Read at most `size` bytes."""
        data = self._file.read(size)
        self.furthest = max(self.furthest, self._file.tell())
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Go to an offset; one that cannot be is answered as libavformat's own files do, for a damaged source may ask for it."""
        try:
            return self._file.seek(offset, whence)
        except (OSError, ValueError, OverflowError):
            return -errno.EINVAL

    def tell(self) -> int:
        """Return the offset of the next byte."""
        return self._file.tell()

    def seekable(self) -> bool:
        """Whether it can be read in any order."""
        return True


class Activity:
    """Reports while an attempt gets on. folder: where it writes. read: bytes of the source read so far, set by who reads it.

    report: called at most once a second, from a thread of its own. waiting: whether it waits for somebody else.
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
        """Report while inside."""
        thread = threading.Thread(target=self._keep_reporting, name="activity", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()

    @contextmanager
    def excused(self) -> Iterator[None]:
        """Report whatever comes while inside: others work on what it waits for, who are watched themselves."""
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
                    return  # the worker has gone, and this process goes with it
            before = now

    def _figures(self) -> tuple[int, int, int, int]:
        return self.read(), self._progress.frames_in, self._progress.frames_out, _bytes_in(self._folder)


def _bytes_in(folder: Path) -> int:
    """Sum the sizes of all files under a folder, some of which may be gone by now."""
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            try:
                total += (Path(path) / name).stat().st_size
            except FileNotFoundError:
                continue
    return total
