"""The one way of a fragment into the log: published by any track's thread, reported to the run in the order of the log."""

from collections import deque
from collections.abc import Iterator
from threading import Lock

from upres.engine.segments.model import Fragment, Log, Track


class Publisher:
    """Publishes fragments; video comes from the thread that encodes it, sound from the one that reads the source.

    log: where they go.
    """

    def __init__(self, log: Log) -> None:
        self.log = log
        self._published: deque[Fragment] = deque()
        self._lock = Lock()

    def publish(self, track: Track, fragment: Fragment, body: bytes) -> None:
        """Append a fragment to its track, which its first one starts."""
        with self._lock:
            self.log.add_track(track)
            self._published.append(self.log.append(fragment, body))

    def published(self) -> Iterator[Fragment]:
        """Yield the fragments published since the last call."""
        while self._published:
            yield self._published.popleft()
