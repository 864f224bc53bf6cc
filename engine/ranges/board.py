"""Which range is made next: the front first. One that was lost is made again, before those behind it."""

import heapq
import threading
from collections import Counter
from collections.abc import Iterable

MOST_TRIES = 3  # at one range


class Board:
    """Hands out the ranges of a job to any number of threads.

    lost: why it gave up on a range that was lost again and again; None where it did not.
    """

    def __init__(self, numbers: Iterable[int]) -> None:
        self.lost: Exception | None = None
        self._waiting = sorted({*numbers})
        self._under_way: set[int] = set()
        self._tries: Counter[int] = Counter()
        self._missed: set[int] = set()
        self._closed = False
        self._changed = threading.Condition()

    @property
    def left(self) -> bool:
        """Whether there are ranges that nobody makes."""
        return bool(self._waiting)

    def take(self, *, wait: bool = True) -> int | None:
        """Take the next range, once there is one; None where there will be no more, or is none now and that is not waited for."""
        with self._changed:
            self._changed.wait_for(lambda: not wait or self._closed or self._waiting or not self._under_way)
            if self._closed or not self._waiting:
                return None
            number = heapq.heappop(self._waiting)
            self._under_way.add(number)
            return number

    def made(self, number: int) -> None:
        """Take a range for made."""
        with self._changed:
            self._under_way.discard(number)
            self._changed.notify_all()

    def fail(self, number: int, error: Exception) -> None:
        """Have a range made again, unless it has been tried too often."""
        with self._changed:
            self._under_way.discard(number)
            heapq.heappush(self._waiting, number)
            self._tries[number] += 1
            if self._tries[number] >= MOST_TRIES:
                self.lost = error
                self._closed = True
            self._changed.notify_all()

    def miss(self, number: int) -> None:
        """Take it that somebody waits for a range. One that nobody makes, at the second time, is not made: it fails."""
        with self._changed:
            under_way = number in self._under_way or number in self._waiting
            again = number in self._missed
            (self._missed.discard if under_way or again else self._missed.add)(number)
        if again and not under_way:
            self.fail(number, RuntimeError("what was made of it is not there"))

    def close(self) -> None:
        """Hand out nothing more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def wait(self, seconds: float) -> None:
        """Wait until a range was made or lost, or some time has passed."""
        with self._changed:
            self._changed.wait(seconds)
