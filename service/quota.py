"""How many requests a key may make: in a minute, and in a day. Counted in memory; a restart forgives."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from .errors import BusyError

WINDOWS = (("minute", 60), ("daily", 86_400))


@dataclass(slots=True)
class _Window:
    number: int
    count: int = 0


class Quota:
    """Fixed windows. limits: requests a minute and a day."""

    def __init__(self, per_minute: int, per_day: int, clock: Callable[[], float] = time.time) -> None:
        self.limit = per_minute
        self._limits = {"minute": per_minute, "daily": per_day}
        self._clock = clock
        self._windows: dict[tuple[str, str], _Window] = {}

    def take(self, owner: str) -> int:
        """Count a request; how many are left this minute. BusyError where there were too many."""
        now = self._clock()
        windows = [(kind, seconds, self._window(owner, kind, int(now // seconds))) for kind, seconds in WINDOWS]
        for kind, seconds, window in windows:
            if window.count >= self._limits[kind]:
                raise BusyError("Too Many Attempts.", int(seconds - now % seconds) + 1, kind)
        for _, _, window in windows:
            window.count += 1
        return self.left(owner)

    def left(self, owner: str) -> int:
        """Requests left this minute."""
        return self.limit - self._window(owner, "minute", int(self._clock() // 60)).count

    def _window(self, owner: str, kind: str, number: int) -> _Window:
        window = self._windows.setdefault((owner, kind), _Window(number))
        if window.number != number:
            window = self._windows[owner, kind] = _Window(number)
        return window
