"""What an attempt may report of its progress and its end. It may have been taken over, so every value has a type and a bound,
and so has how much comes in a second.
"""

import time
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, FiniteFloat

from upres.engine.ranges.plan import MOST_RANGES

MOST_WARNINGS = 200
MOST_CHARACTERS = 1000  # of a message
MOST_NAME = 200  # of networks, and what they run on, and of who holds a lock
COUNTED = 1 << 53  # what every reader of JSON holds exactly
BYTES_A_SECOND = 1 << 20  # of an attempt's reports: many times what any needs, and little for who reads them
BURST_BYTES = 4 << 20
LEAST_BYTES = 1 << 10  # that any report counts as


def _cut(most: int) -> BeforeValidator:
    return BeforeValidator(lambda value: value[:most] if isinstance(value, str | list) else value)


def _printable(text: str) -> str:
    """Give it as one line that does nothing to a terminal."""
    return " ".join("".join(each if each.isprintable() else " " for each in text).split())


Count = Annotated[int, Field(strict=True, ge=0, le=COUNTED)]
Seconds = Annotated[FiniteFloat, Field(strict=True, ge=0, le=COUNTED)]
StageName = Literal["read", "infer", "encode"]
Percent = Annotated[FiniteFloat, Field(strict=True, ge=0, le=100)]
Name = Annotated[str, Field(strict=True, max_length=64)]
Text = Annotated[str, Field(strict=True), _cut(MOST_NAME)]
Message = Annotated[str, Field(strict=True), _cut(MOST_CHARACTERS)]


class Encoding(BaseModel):
    """The encoder that was chosen, and its frames."""

    encoder: Name
    width: Count
    height: Count


class State(BaseModel):
    """How far an attempt has come. seconds: by stage. network, device: which works now, and on what. rate: the source's."""

    frames_in: Count = 0
    frames_out: Count = 0
    frames_resumed: Count = 0
    frames_dropped: Count = 0
    network: Text | None = None
    device: Text | None = None
    seconds: Annotated[dict[Name, Seconds], Field(max_length=16)] = {}
    warnings: Annotated[list[Message], _cut(MOST_WARNINGS)] = []
    encoding: Encoding | None = None
    rate: Seconds | None = None


class Totals(State):
    """What a job's row keeps. pixels: of the source, unless its sender set the pace."""

    frames: Count
    duration_seconds: Seconds
    seconds: Annotated[dict[Name, Seconds], Field(max_length=16)]
    repairs: Annotated[dict[Name, Count], Field(max_length=16)] = {}
    pixels: Count | None = None


class Progress(BaseModel):
    """The report `progress`."""

    percent: Percent
    state: State


class Joined(BaseModel):
    """The report `joined`."""

    totals: Totals


class Failed(BaseModel):
    """The report `failed`. error: an error's class."""

    error: Name
    message: Message


class Locked(BaseModel):
    """The report `locked`. holder: who has the lock, which goes into the log."""

    holder: Annotated[str, Field(strict=True, max_length=MOST_NAME), AfterValidator(_printable)]


Number = Annotated[int, Field(strict=True, ge=0, lt=MOST_RANGES)]  # of a range


class Ranges(BaseModel):
    """The report `ranges`: those that there are to make."""

    numbers: Annotated[list[Number], Field(max_length=MOST_RANGES)]


class Awaits(BaseModel):
    """The report `awaits`: the range that is waited for."""

    number: Number


class Stage(BaseModel):
    """When a stage worked, in seconds before the report, and for how much of that. frames: that it had."""

    name: StageName
    began_ago: Seconds
    ended_ago: Seconds
    seconds: Seconds
    frames: Count


class Stages(BaseModel):
    """The report `stages` of an attempt that is traced: once, before its verdict."""

    stages: Annotated[list[Stage], Field(max_length=3)]


class Plain(BaseModel):
    """A report without values."""


SHAPES: dict[str, type[BaseModel]] = {
    "fragment": Plain,
    "waiting": Plain,
    "ranges": Ranges,
    "awaits": Awaits,
    "read": Plain,
    "made": Plain,
    "stages": Stages,
    "progress": Progress,
    "joined": Joined,
    "failed": Failed,
    "locked": Locked,
}


def checked(report: dict[str, Any]) -> dict[str, Any] | None:
    """Return a report of an attempt as it may be passed on, without what else it holds; None for what is none."""
    kind = report.get("report")
    shape = SHAPES.get(kind) if isinstance(kind, str) else None
    try:
        return (
            None if shape is None else {"report": kind, **shape.model_validate(report).model_dump(exclude_unset=True)}
        )
    except ValueError:
        return None


class Pace:
    """How fast an attempt may report. One that reports more is not listened to for a while, and waits itself when that lasts."""

    def __init__(self, wait: Callable[[float], None] = time.sleep, clock: Callable[[], float] = time.monotonic) -> None:
        self._wait, self._clock = wait, clock
        self._left, self._at = float(BURST_BYTES), clock()

    def keep(self, size: int) -> None:
        """Count a report of so many bytes; wait until the next one may come."""
        now = self._clock()
        self._left = min(BURST_BYTES, self._left + (now - self._at) * BYTES_A_SECOND) - max(size, LEAST_BYTES)
        self._at = now
        if self._left < 0:
            self._wait(-self._left / BYTES_A_SECOND)
