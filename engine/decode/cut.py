"""Which part of a source is read."""

from dataclasses import dataclass
from fractions import Fraction

from upres.engine.core.errors import SettingsError
from upres.engine.core.text import number


@dataclass(frozen=True, slots=True)
class Cut:
    """Which part of a source is read: seconds from its start; duration None means to the end."""

    start: Fraction = Fraction(0)
    duration: Fraction | None = None

    def __post_init__(self) -> None:
        problems = [f"a cut cannot begin at {number(self.start)} s, before the source does"] * (self.start < 0)
        if self.duration is not None and self.duration <= 0:
            problems.append(f"`duration` must be longer than 0 s, got {number(self.duration)}")
        if problems:
            raise SettingsError("; ".join(problems))


WHOLE = Cut()


@dataclass(frozen=True, slots=True)
class Span:
    """Some of a source's frames, by their times in seconds.

    start: of the first; None is the source's own. end: before which the last one is; None is the source's own.
    after: frames from this second on are decoded, so that what remembers earlier ones is ready at the start; None where start is.
    """

    start: Fraction | None = None
    end: Fraction | None = None
    after: Fraction | None = None
