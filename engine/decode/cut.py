"""The part of a source that is read, and ranges of its frames."""

from dataclasses import dataclass
from fractions import Fraction

from upres.engine.core.errors import SettingsError
from upres.engine.core.text import number


@dataclass(frozen=True, slots=True)
class Cut:
    """The part of a source that is read, in seconds from its start. duration: None means to the end."""

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
    """A range of a source's frames, by their times in seconds.

    start: time of the first frame; None is the source's start. end: frames before this time; None is the source's end.
    after: frames are decoded from this second on, so that filters and models with memory are warmed up at the start; None if
    start is None.
    """

    start: Fraction | None = None
    end: Fraction | None = None
    after: Fraction | None = None
