"""Thread-safe publication of fragments to the log."""

from collections import deque
from collections.abc import Iterator
from threading import Lock

from upres.engine.segments.model import Fragment, Log, Track


class Publisher:
    """Publishes fragments to a log from several threads (video from the encoder's, audio from the reader's), and keeps their order.

    log: the log that fragments are appended to.
    """

    def __init__(self, log: Log) -> None:
        self.log = log
        self._published: deque[Fragment] = deque()
        self._lock = Lock()

    def publish(self, track: Track, fragment: Fragment, body: bytes) -> None:
        """Append a fragment to its track; the first fragment adds the track to the log."""
        with self._lock:
            self.log.add_track(track)
            self._published.append(self.log.append(fragment, body))

    def published(self) -> Iterator[Fragment]:
        """Yield the fragments published since the last call, in log order."""
        while self._published:
            yield self._published.popleft()
