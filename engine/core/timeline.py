"""Repair of the timestamps of one track: missing, duplicate or backward ones become a strictly increasing sequence.

Rules, in this order, for each timestamp of one track, after jumps of the whole file's clock were removed (`decode.clock`):
1. missing: use the dts if there is one and it is later than the previous timestamp; else the previous timestamp plus one nominal
   duration.
2. duplicate or backward: use the previous timestamp plus half a nominal duration, for this timestamp only. Audio packets may share
   a timestamp, because they can be shorter than a tick.
A jump forward is kept, because it is normal for a variable frame rate.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, TypeVar

from .text import counted


@dataclass(slots=True)
class Repairs:
    """Counts of timestamp repairs by kind, of damaged packets, and of frames whose decoder concealed missing data.

    interruptions: how often a live source broke off and was reopened.
    """

    missing: int = 0
    wrapped: int = 0
    backward: int = 0
    forward: int = 0
    doubled: int = 0
    damaged: int = 0
    concealed: int = 0
    interruptions: int = 0

    def __bool__(self) -> bool:
        return any(count for count, _ in self._counts())

    def __str__(self) -> str:
        return ", ".join(counted(count, name) for count, name in self._counts() if count) or "none"

    def clear(self) -> None:
        """Reset all counts to 0, because the source is read again."""
        for name in self.__slots__:
            setattr(self, name, 0)

    def _counts(self) -> list[tuple[int, str]]:
        return [
            (self.missing, "missing timestamp"),
            (self.wrapped, "wrapped timestamp"),
            (self.backward, "backward jump"),
            (self.forward, "forward jump"),
            (self.doubled, "doubled timestamp"),
            (self.damaged, "damaged packet"),
            (self.concealed, "concealed frame"),
            (self.interruptions, "interruption"),
        ]


class Timeline:
    """Makes the timestamps of one track strictly increasing. nominal: usual frame duration in ticks. shared: allow equal ones."""

    def __init__(self, nominal: int, repairs: Repairs, *, shared: bool = False) -> None:
        self._nominal = max(1, nominal)
        self._repairs = repairs
        self._shared = shared
        self._last: int | None = None

    def place(self, pts: int | None, dts: int | None) -> int:
        """Return the time of the next frame in ticks: later than the previous one, or not earlier if timestamps may be shared."""
        self._last = self._next(pts, dts)
        return self._last

    def _next(self, pts: int | None, dts: int | None) -> int:
        last = self._last
        if pts is None:
            self._repairs.missing += 1
            if dts is not None and (last is None or dts > last):
                return dts
            return 0 if last is None else last + self._nominal
        if last is not None and pts < last + (not self._shared):
            self._repairs.doubled += 1
            return last + max(1, self._nominal // 2)
        return pts


class Timed(Protocol):
    """Decoded frames, packets, and anything else with a timestamp and a duration."""

    pts: int | None
    duration: int


T = TypeVar("T", bound=Timed)


def with_durations(items: Iterator[T], nominal: int) -> Iterator[T]:
    """Yield each item with the duration up to the next one's pts; the last keeps its own, or gets the nominal one."""
    previous: T | None = None
    for item in items:
        if previous is not None and previous.pts is not None and item.pts is not None:
            previous.duration = item.pts - previous.pts
            yield previous
        previous = item
    if previous is not None:
        previous.duration = previous.duration or nominal
        yield previous


def with_nominal(items: Iterator[T], nominal: int) -> Iterator[T]:
    """Yield each item at once, with the nominal duration if it has none."""
    for item in items:
        item.duration = item.duration or nominal
        yield item
