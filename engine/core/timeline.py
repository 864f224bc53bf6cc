"""Stamps of one track, repaired by a written rule: missing, doubled or backward ones become a strictly rising sequence.

The rule, in this order, for each stamp of one track, once the file's clock has been made one (`decode.clock`):
1. missing: the dts stands in, if there is one and it rises; else the stamp before plus one nominal duration.
2. doubled or backward: half a nominal duration after the stamp before, for this stamp alone. Sound may share a stamp: its
   packets can be shorter than a tick.
A jump forward is kept: it is what variable frame rate looks like.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, TypeVar

from .text import counted


@dataclass(slots=True)
class Repairs:
    """How often each rule was used; packets that were damaged; frames whose decoder filled in what was missing.

    interruptions: of a live source that broke off and was opened again.
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
        """Count from 0: what was read is read again."""
        for name in self.__slots__:
            setattr(self, name, 0)

    def _counts(self) -> list[tuple[int, str]]:
        return [
            (self.missing, "missing time stamp"),
            (self.wrapped, "wrapped time stamp"),
            (self.backward, "backward jump"),
            (self.forward, "forward jump"),
            (self.doubled, "doubled time stamp"),
            (self.damaged, "damaged packet"),
            (self.concealed, "concealed frame"),
            (self.interruptions, "interruption"),
        ]


class Timeline:
    """The stamps of one track, made strictly rising. nominal: ticks a frame usually lasts. shared: equal stamps are left equal."""

    def __init__(self, nominal: int, repairs: Repairs, *, shared: bool = False) -> None:
        self._nominal = max(1, nominal)
        self._repairs = repairs
        self._shared = shared
        self._last: int | None = None

    def place(self, pts: int | None, dts: int | None) -> int:
        """Return the time of the next frame in ticks: later than any before, or as late where stamps are shared."""
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
    """Anything with a time that a duration can be derived for: decoded frames, packets."""

    pts: int | None
    duration: int


T = TypeVar("T", bound=Timed)


def with_durations(items: Iterator[T], nominal: int) -> Iterator[T]:
    """Yield each item with the duration up to the next one's pts; the last keeps its own, or the nominal one where it has none."""
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
    """Yield each item, with the nominal duration where it has none; nothing is held back to look at the next."""
    for item in items:
        item.duration = item.duration or nominal
        yield item
