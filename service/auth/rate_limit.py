"""Rate limits per API key, for HTTP and gRPC together: requests per minute and per day.

A restart resets the counts, unless several servers share a database (`shared_quota`).
"""

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from upres.service.domain.errors import BusyError

WINDOWS = (("minute", 60), ("daily", 86_400))


@dataclass(frozen=True, slots=True)
class Rates:
    """Rate limits of a key, and how many requests remain."""

    per_minute: int
    remaining_this_minute: int
    per_day: int
    remaining_today: int


@dataclass(frozen=True, slots=True)
class Counted:
    """Number of a key's requests in one window. kind: minute or daily. number: of the window, counted from the epoch."""

    owner: str
    kind: str
    number: int
    count: int


@dataclass(slots=True)
class _Window:
    """count: requests at this server, of which `published` are known to others. others: known requests at other servers."""

    number: int
    count: int = 0
    published: int = 0
    others: int = 0

    @property
    def all(self) -> int:
        return self.count + self.others


class Quota:
    """Rate limiter with fixed windows. per_minute, per_day: requests per key."""

    def __init__(self, per_minute: int, per_day: int, clock: Callable[[], float] = time.time) -> None:
        self._limits = {"minute": per_minute, "daily": per_day}
        self._clock = clock
        self._windows: dict[tuple[str, str], _Window] = {}

    def take(self, owner: str) -> None:
        """Count a request. Raises BusyError if the limit is exceeded."""
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
        """Return the rates of a key; without a key, those of one that has made no request."""
        now, remaining = self._clock(), dict(self._limits)
        if owner is not None:
            remaining = {
                kind: max(0, self._limits[kind] - self._window(owner, kind, int(now // seconds)).all)
                for kind, seconds in WINDOWS
            }
        return Rates(self._limits["minute"], remaining["minute"], self._limits["daily"], remaining["daily"])

    def numbers(self) -> dict[str, int]:
        """Return the number of the current window of each kind."""
        now = self._clock()
        return {kind: int(now // seconds) for kind, seconds in WINDOWS}

    def unpublished(self) -> list[Counted]:
        """List the counts of this server that have not been published to other servers."""
        return [
            Counted(owner, kind, window.number, window.count)
            for (owner, kind), window in self._windows.items()
            if window.count != window.published
        ]

    def merge(self, published: Collection[Counted], others: Collection[Counted]) -> None:
        """Record which counts of this server were published, and the counts of other servers in the current windows."""
        for each in published:
            window = self._windows[each.owner, each.kind]
            if window.number == each.number:
                window.published = each.count
        for each in others:
            known = self._windows.get((each.owner, each.kind))
            if known is None or known.number <= each.number:
                self._window(each.owner, each.kind, each.number).others = each.count

    def _window(self, owner: str, kind: str, number: int) -> _Window:
        window = self._windows.setdefault((owner, kind), _Window(number))
        if window.number != number:
            window = self._windows[owner, kind] = _Window(number)
        return window
