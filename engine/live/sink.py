"""One destination of a live result, written by its own thread so that it cannot delay others."""

import logging
import threading
from collections import deque
from typing import Any

from upres.engine.core.errors import TargetError, UpresError, reason
from upres.engine.core.text import redacted
from upres.engine.encode.join.stream import StreamedFile
from upres.engine.segments.model import Fragment, Track

from .destination import Destination

logger = logging.getLogger(__name__)

QUEUE_BYTES = 32 << 20  # limit on the data that waits for a slow destination
END_SECONDS = 15.0  # timeout for a destination to accept the waiting data after the end
ABANDONED_SECONDS = 2.0  # timeout for its thread to end after the program it waits for was killed


class Sink:
    """A destination that receives fragments as they are made.

    error: why it accepts no more, once it has failed. dropped: number of frames dropped because it was too slow. For a file, which
    must not lose any, `push` blocks instead.
    """

    def __init__(self, destination: Destination, tracks: dict[str, Track], extras: list[dict[str, Any]]) -> None:
        """Start the writer thread. tracks, extras: those of the log, which grow as the log does."""
        self.destination = destination
        self.error: UpresError | None = None
        self.dropped = 0
        self._log = _TransientLog(tracks, extras)
        self._queue: deque[tuple[Fragment, bytes]] = deque()
        self._bytes = 0
        self._ended = self._skips = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._write, name=f"to {destination.name}", daemon=True)
        self._thread.start()

    def push(self, fragment: Fragment, data: bytes) -> None:
        """Queue a fragment. If too much is waiting, drop video until the next keyframe."""
        with self._changed:
            if self.destination.is_file:
                self._changed.wait_for(lambda: self.error is not None or self._fits(data))
            if self.error is not None:
                return
            video = fragment.track == "video"
            if not self._fits(data):
                self._skips = True
            elif video and fragment.independent:
                self._skips = False
            if self._skips:
                self.dropped += fragment.frames * video
                return
            self._queue.append((fragment, data))
            self._bytes += len(data)
            self._changed.notify_all()

    def end(self) -> None:
        """Wait until it has written everything and closed; abandon it with an error if it takes too long."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        self._thread.join(END_SECONDS)
        if self._thread.is_alive():
            self._fail(TargetError(f"it accepts nothing any more: {END_SECONDS:g} s were not enough to end"))
            self.destination.abandon()
            self._thread.join(ABANDONED_SECONDS)

    def _fits(self, data: bytes) -> bool:
        return not self._queue or self._bytes + len(data) <= QUEUE_BYTES

    def _write(self) -> None:
        try:
            with (
                self.destination.opened() as target,
                StreamedFile(self._log, target, self.destination.container, prompt=True, name="") as file,
            ):
                while (item := self._next()) is not None:
                    self._log.hold(*item)
                    file.push(item[0])
                    if not file.waits:
                        self._log.forget()
        except UpresError as error:
            self._fail(error)
        except OSError as error:
            self._fail(TargetError(f"it cannot be written ({reason(error)})"))
        except BaseException as error:  # otherwise `push` to a file would block forever
            logger.exception("writing to %s failed", self.destination.name)
            self._fail(TargetError(redacted(f"writing failed: {type(error).__name__}: {error}; please report it")))

    def _next(self) -> tuple[Fragment, bytes] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._ended)
            if not self._queue:
                return None
            item = self._queue.popleft()
            self._bytes -= len(item[1])
            self._changed.notify_all()
            return item

    def _fail(self, error: UpresError) -> None:
        with self._changed:
            self.error = self.error or error  # later errors are consequences of the first
            self._queue.clear()
            self._changed.notify_all()


class _TransientLog:
    """The log as seen by a destination: it holds fragments from their arrival until they are written."""

    def __init__(self, tracks: dict[str, Track], extras: list[dict[str, Any]]) -> None:
        self.header: dict[str, Any] = {}
        self.tracks = tracks
        self.extras = extras
        self._data: dict[tuple[str, int, int], bytes] = {}
        self._latest: dict[str, Fragment] = {}

    def hold(self, fragment: Fragment, data: bytes) -> None:
        """Keep a fragment until `forget` is called."""
        self._data[fragment.track, *fragment.cursor] = data
        self._latest[fragment.track] = fragment

    def forget(self) -> None:
        """Release all fragments."""
        self._data.clear()

    def read(self, fragment: Fragment) -> bytes:
        """Return the data of a fragment that is held."""
        return self._data[fragment.track, *fragment.cursor]

    def fragments(self, track: str) -> list[Fragment]:
        """Return the latest fragment of a track."""
        return [self._latest[track]] if track in self._latest else []

    def add_track(self, track: Track) -> None:
        """Do nothing: tracks are shared with the actual log."""

    def append(self, fragment: Fragment, data: bytes) -> Fragment:
        """Return the fragment: its data is kept by `hold`."""
        return fragment

    def note(self, extra: dict[str, Any]) -> None:
        """Do nothing: extras are shared with the actual log."""

    def close(self) -> None:
        """Do nothing: memory needs no release."""
