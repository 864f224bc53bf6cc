"""How many requests a key may make, over HTTP and gRPC together: in a minute, and in a day.

A restart resets both, unless several servers share a database (`shared_quota`).
"""

import time
from collections.abc import Callable, Collection
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


@dataclass(frozen=True, slots=True)
class Counted:
    """Requests of a key in one window, which is one of a kind by its number."""

    owner: str
    kind: str
    number: int
    count: int


@dataclass(slots=True)
class _Window:
    """count: taken here, of which others know `said`. others: taken by other servers, as far as is known here."""

    number: int
    count: int = 0
    said: int = 0
    others: int = 0

    @property
    def all(self) -> int:
        return self.count + self.others


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
            if window.all >= self._limits[kind]:
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
                kind: max(0, self._limits[kind] - self._window(owner, kind, int(now // seconds)).all)
                for kind, seconds in WINDOWS
            }
        return Rates(self._limits["minute"], left["minute"], self._limits["daily"], left["daily"])

    def numbers(self) -> dict[str, int]:
        """Give the number of the window of each kind that it is now."""
        now = self._clock()
        return {kind: int(now // seconds) for kind, seconds in WINDOWS}

    def unsaid(self) -> list[Counted]:
        """List what was counted here that other servers do not know."""
        return [
            Counted(owner, kind, window.number, window.count)
            for (owner, kind), window in self._windows.items()
            if window.count != window.said
        ]

    def hear(self, said: Collection[Counted], others: Collection[Counted]) -> None:
        """Note what other servers know by now of what is counted here, and what they have counted in the windows of now."""
        for each in said:
            window = self._windows[each.owner, each.kind]
            if window.number == each.number:
                window.said = each.count
        for each in others:
            known = self._windows.get((each.owner, each.kind))
            if known is None or known.number <= each.number:
                self._window(each.owner, each.kind, each.number).others = each.count

    def _window(self, owner: str, kind: str, number: int) -> _Window:
        window = self._windows.setdefault((owner, kind), _Window(number))
        if window.number != number:
            window = self._windows[owner, kind] = _Window(number)
        return window
