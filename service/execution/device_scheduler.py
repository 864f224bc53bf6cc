"""One device that several attempts share, by frames or by steps of a model: live ones first, then every owner in turn."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count

PAUSE_SECONDS = 0.01  # how soon the next frame of a live source that is behind comes
BEHIND = 10  # times that long it is waited for where it did come that soon
OTHER_SECONDS = 1.0  # the longest that a live source keeps the device from others at a stretch


@dataclass(frozen=True, slots=True)
class Turn:
    """An attempt that waits. number: in order of arrival."""

    owner: str
    live: bool
    number: int


class Turns:
    """The order of turns: live before others, or after them, then the owner served longest ago, then in order of arrival."""

    def __init__(self) -> None:
        self._waiting: list[Turn] = []
        self._served: dict[str, int] = {}
        self._numbers = count(1)

    def add(self, owner: str, *, live: bool) -> Turn:
        """Wait for a turn."""
        turn = Turn(owner, live, next(self._numbers))
        self._waiting.append(turn)
        return turn

    def next(self, *, live_first: bool = True) -> Turn:
        """Return whose turn it is."""
        return min(
            self._waiting, key=lambda turn: (turn.live != live_first, self._served.get(turn.owner, 0), turn.number)
        )

    def take(self, turn: Turn) -> None:
        """Take a turn; its owner comes last now."""
        self._waiting.remove(turn)
        self._served[turn.owner] = next(self._numbers)


class Device:
    """Held while a model works. pause: seconds that it is kept for the next live frame after one. other: at most so long.

    busy_seconds: that it was held so far.

    Without a pause another attempt, whose next frame waits already, would come between any two frames of a live source, and one
    that is behind would stay so.
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
        """Wait until the device is free and nobody else is next; hold it."""
        with self._changed:
            turn = self._turns.add(owner, live=live)
            while (seconds := self._left(turn)) != 0:
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

    def _left(self, turn: Turn) -> float | None:
        """Return the seconds that a turn still has to wait; None: until something changes."""
        if not self._free or self._turns.next(live_first=self._live_first) is not turn:
            return None
        kept_until = min(self._kept_until, self._other_at + self._other)
        return 0.0 if turn.live else max(0.0, kept_until - self._clock())
