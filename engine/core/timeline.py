"""Time repaired by a written rule: pts that are missing, doubled, backward or wrapped become a strictly rising sequence.

The rule, in this order, for each stamp of one track:
1. missing: the dts stands in, if there is one and it rises; else the stamp before plus one nominal duration.
2. wrapped: a fall of more than half of the container's stamp range is a wrap; the range is added from here on.
3. backward by more than a second: a discontinuity; from here on everything moves so that this stamp follows the one before
   at one nominal duration.
4. doubled, or backward by less: half a nominal duration after the stamp before, for this stamp alone. Sound may share a
   stamp: its packets can be shorter than a tick.
A jump forward is kept: it is what variable frame rate looks like.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol, TypeVar

from .text import counted

MPEG_STAMP_RANGE = 1 << 33  # ISO/IEC 13818-1, 2.4.3.6: PTS and DTS are 33 bits of a 90 kHz clock


@dataclass(slots=True)
class Repairs:
    """How often each rule was used; packets that were damaged; frames whose decoder filled in what was missing."""

    missing: int = 0
    wrapped: int = 0
    backward: int = 0
    doubled: int = 0
    damaged: int = 0
    concealed: int = 0

    def __bool__(self) -> bool:
        return any((self.missing, self.wrapped, self.backward, self.doubled, self.damaged, self.concealed))

    def __str__(self) -> str:
        counts = {
            "missing time stamp": self.missing,
            "wrapped time stamp": self.wrapped,
            "backward time stamp": self.backward,
            "doubled time stamp": self.doubled,
            "damaged packet": self.damaged,
            "concealed frame": self.concealed,
        }
        return ", ".join(counted(count, name) for name, count in counts.items() if count) or "none"


class Timeline:
    """The stamps of one track, made strictly rising. nominal: ticks a frame usually lasts; wrap: the stamp range, or 0.

    shared: equal stamps are left equal.
    """

    def __init__(self, time_base: Fraction, nominal: int, wrap: int, repairs: Repairs, *, shared: bool = False) -> None:
        self._second = max(1, round(1 / time_base))
        self._nominal = max(1, nominal)
        self._wrap = wrap
        self._repairs = repairs
        self._shared = shared
        self._shift = 0
        self._last: int | None = None

    def place(self, pts: int | None, dts: int | None) -> int:
        """The time of the next frame, in ticks, later than any before, or as late where stamps are shared."""
        self._last = self._next(pts, dts)
        return self._last

    def _next(self, pts: int | None, dts: int | None) -> int:
        last = self._last
        if pts is None:
            self._repairs.missing += 1
            if dts is not None and (last is None or dts + self._shift > last):
                return dts + self._shift
            return 0 if last is None else last + self._nominal
        if last is None:
            return pts
        if self._wrap and pts + self._shift < last - self._wrap // 2:
            self._repairs.wrapped += 1
            self._shift += self._wrap
        if pts + self._shift < last - self._second:
            self._repairs.backward += 1
            self._shift = last + self._nominal - pts
        if pts + self._shift < last + (not self._shared):
            self._repairs.doubled += 1
            return last + max(1, self._nominal // 2)
        return pts + self._shift


class Timed(Protocol):
    """Anything with a time that a duration can be derived for: decoded frames, packets."""

    pts: int | None
    duration: int


T = TypeVar("T", bound=Timed)


def with_durations(items: Iterator[T], nominal: int) -> Iterator[T]:
    """Give each item the duration up to the next one's pts; the last keeps its own, or the nominal one where it has none."""
    held: T | None = None
    for item in items:
        if held is not None and held.pts is not None and item.pts is not None:
            held.duration = item.pts - held.pts
            yield held
        held = item
    if held is not None:
        held.duration = held.duration or nominal
        yield held


def with_nominal(items: Iterator[T], nominal: int) -> Iterator[T]:
    """Give each item that has no duration the nominal one; nothing is held back to look at the next."""
    for item in items:
        item.duration = item.duration or nominal
        yield item
