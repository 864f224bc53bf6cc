"""Assignment of ranges to devices: the earliest range first; a lost range is retried before later ones."""

import heapq
import threading
from collections import Counter
from collections.abc import Iterable

MOST_TRIES = 3  # limit on the attempts at one range


class Board:
    """Hands out the ranges of a job to any number of threads.

    lost: error of the range whose repeated failure ended the work; None if there is none.
    """

    def __init__(self, numbers: Iterable[int]) -> None:
        self.lost: Exception | None = None
        self._waiting = sorted({*numbers})
        self._in_progress: set[int] = set()
        self._tries: Counter[int] = Counter()
        self._missed: set[int] = set()  # ranges that the merger waits for although they are not assigned
        self._closed = False
        self._changed = threading.Condition()

    @property
    def has_unassigned(self) -> bool:
        """Whether there are ranges that are not assigned to any device."""
        return bool(self._waiting)

    def take(self, *, wait: bool = True) -> int | None:
        """Return the next range, waiting for one if `wait` is set; None if there will be no more, or without `wait`, none now."""
        with self._changed:
            self._changed.wait_for(lambda: not wait or self._closed or self._waiting or not self._in_progress)
            if self._closed or not self._waiting:
                return None
            number = heapq.heappop(self._waiting)
            self._in_progress.add(number)
            return number

    def complete(self, number: int) -> None:
        """Record that a range is complete."""
        with self._changed:
            self._in_progress.discard(number)
            self._changed.notify_all()

    def fail(self, number: int, error: Exception) -> None:
        """Schedule a retry of a range, or end the work if it has been tried too often."""
        with self._changed:
            self._in_progress.discard(number)
            heapq.heappush(self._waiting, number)
            self._tries[number] += 1
            if self._tries[number] >= MOST_TRIES:
                self.lost = error
                self._closed = True
            self._changed.notify_all()

    def miss(self, number: int) -> None:
        """Record that the merger waits for a range. At the second call for a range that is not assigned, the range fails."""
        with self._changed:
            expected = number in self._in_progress or number in self._waiting
            again = number in self._missed
            (self._missed.discard if expected or again else self._missed.add)(number)
        if again and not expected:
            self.fail(number, RuntimeError("its result is missing"))

    def close(self) -> None:
        """Stop handing out ranges."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def wait(self, seconds: float) -> None:
        """Wait until a range is complete or lost, or until the time has passed."""
        with self._changed:
            self._changed.wait(seconds)
