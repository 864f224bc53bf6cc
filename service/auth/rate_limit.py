"""How many requests a key may make, over HTTP and gRPC together: in a minute, and in a day. A restart resets both."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from upres.service.domain.errors import BusyError

WINDOWS = (("minute", 60), ("daily", 86_400))


@dataclass(frozen=True, slots=True)
class Rates:
    """Requests that a key may make, and how many of them are left."""

    per_minute: int
    left_this_minute: int
    per_day: int
    left_today: int


@dataclass(slots=True)
class _Window:
    number: int
    count: int = 0


class Quota:
    """Fixed windows. limits: requests a minute and a day."""

    def __init__(self, per_minute: int, per_day: int, clock: Callable[[], float] = time.time) -> None:
        self._limits = {"minute": per_minute, "daily": per_day}
        self._clock = clock
        self._windows: dict[tuple[str, str], _Window] = {}

    def take(self, owner: str) -> None:
        """Count a request; raises BusyError where there were too many."""
        now = self._clock()
        windows = [(kind, seconds, self._window(owner, kind, int(now // seconds))) for kind, seconds in WINDOWS]
        for kind, seconds, window in windows:
            if window.count >= self._limits[kind]:
                wait = int(seconds - now % seconds) + 1
                message = f"a key may make {self._limits[kind]} requests in {seconds} s; try again in {wait} s"
                raise BusyError(message, wait, kind)
        for _, _, window in windows:
            window.count += 1

    def rates(self, owner: str | None) -> Rates:
        """Report the rates of a key; of none, those of one that has made no request."""
        now, left = self._clock(), dict(self._limits)
        if owner is not None:
            left = {
                kind: self._limits[kind] - self._window(owner, kind, int(now // seconds)).count
                for kind, seconds in WINDOWS
            }
        return Rates(self._limits["minute"], left["minute"], self._limits["daily"], left["daily"])

    def _window(self, owner: str, kind: str, number: int) -> _Window:
        window = self._windows.setdefault((owner, kind), _Window(number))
        if window.number != number:
            window = self._windows[owner, kind] = _Window(number)
        return window
