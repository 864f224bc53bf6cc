"""Scheduling of one device that several attempts share, per frame or model step: live attempts first, then the owners in turn."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count

PAUSE_SECONDS = 0.01  # how soon a live source that is behind delivers its next frame
BEHIND = 10  # factor on that wait if the last frame did arrive that soon
OTHER_SECONDS = 1.0  # the longest time for which live sources keep the device from others


@dataclass(frozen=True, slots=True)
class Turn:
    """An attempt that waits. number: position in the order of arrival."""

    owner: str
    live: bool
    number: int


class Turns:
    """The queue of turns: live attempts first (or last), then the owner served least recently, then the order of arrival."""

    def __init__(self) -> None:
        self._waiting: list[Turn] = []
        self._served: dict[str, int] = {}
        self._numbers = count(1)

    def add(self, owner: str, *, live: bool) -> Turn:
        """Add a waiting turn."""
        turn = Turn(owner, live, next(self._numbers))
        self._waiting.append(turn)
        return turn

    def next(self, *, live_first: bool = True) -> Turn:
        """Return the turn that is next."""
        return min(
            self._waiting, key=lambda turn: (turn.live != live_first, self._served.get(turn.owner, 0), turn.number)
        )

    def take(self, turn: Turn) -> None:
        """Remove a turn that starts; its owner moves to the end of the order."""
        self._waiting.remove(turn)
        self._served[turn.owner] = next(self._numbers)


class Device:
    """A device that is held while a model works.

    pause: seconds for which the device is reserved for the next live frame after a live frame. other: upper limit in seconds for
    such reservations in a row. busy_seconds: total time that the device was held.

    Without a pause, another attempt, whose next frame already waits, would run between any two frames of a live source, and a live
    source that is behind would never catch up.
    """

    def __init__(
        self,
        pause: float = PAUSE_SECONDS,
        other: float = OTHER_SECONDS,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._pause = pause
        self._other = other
        self._turns = Turns()
        self._changed = threading.Condition()
        self._free = True
        self.busy_seconds = 0.0
        self._kept_until = 0.0
        self._other_at = self._clock()
        self._live_first = True

    @contextmanager
    def turn(self, owner: str, *, live: bool) -> Iterator[None]:
        """Wait until the device is free and this attempt is next, then hold the device."""
        with self._changed:
            turn = self._turns.add(owner, live=live)
            while (seconds := self._seconds_to_wait(turn)) != 0:
                self._changed.wait(seconds)
            self._turns.take(turn)
            self._free = False
            since = self._clock()
            behind = since < self._kept_until
        try:
            yield
        finally:
            with self._changed:
                self._free, now = True, self._clock()
                self.busy_seconds += now - since
                if live:
                    self._kept_until = now + (BEHIND * self._pause if behind else self._pause)
                    self._live_first = now < self._other_at + self._other
                else:
                    self._other_at, self._live_first = now, True
                self._changed.notify_all()

    def _seconds_to_wait(self, turn: Turn) -> float | None:
        """Return the seconds that a turn still has to wait; None to wait for a notification."""
        if not self._free or self._turns.next(live_first=self._live_first) is not turn:
            return None
        kept_until = min(self._kept_until, self._other_at + self._other)
        return 0.0 if turn.live else max(0.0, kept_until - self._clock())
