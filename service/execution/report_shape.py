"""Validation of an attempt's reports.

The attempt may be compromised by hostile media, so every value has a type and a limit, and so has the number of bytes per second.
"""

import time
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, FiniteFloat

from upres.engine.ranges.plan import MOST_RANGES

MAX_WARNINGS = 200
MAX_CHARACTERS = 1000  # per message
MAX_NAME = 200  # characters of the names of networks, of devices and of the holder of a lock
COUNTED = 1 << 53  # every JSON parser represents integers up to this exactly
BYTES_A_SECOND = 1 << 20  # of an attempt's reports: far more than needed, but cheap to read
BURST_BYTES = 4 << 20
LEAST_BYTES = 1 << 10  # minimum that any report counts as


def _cut(most: int) -> BeforeValidator:
    return BeforeValidator(lambda value: value[:most] if isinstance(value, str | list) else value)


def _printable(text: str) -> str:
    """Return it as one line without control characters."""
    return " ".join("".join(each if each.isprintable() else " " for each in text).split())


Count = Annotated[int, Field(strict=True, ge=0, le=COUNTED)]
Seconds = Annotated[FiniteFloat, Field(strict=True, ge=0, le=COUNTED)]
StageName = Literal["read", "infer", "encode"]
Percent = Annotated[FiniteFloat, Field(strict=True, ge=0, le=100)]
Name = Annotated[str, Field(strict=True, max_length=64)]
Text = Annotated[str, Field(strict=True), _cut(MAX_NAME)]
Message = Annotated[str, Field(strict=True), _cut(MAX_CHARACTERS)]


class Encoding(BaseModel):
    """The chosen encoder, and the size of its frames."""

    encoder: Name
    width: Count
    height: Count


class State(BaseModel):
    """Progress of an attempt. seconds: by stage. network, device: in use now. rate: frame rate of the source."""

    frames_in: Count = 0
    frames_out: Count = 0
    frames_resumed: Count = 0
    frames_dropped: Count = 0
    network: Text | None = None
    device: Text | None = None
    seconds: Annotated[dict[Name, Seconds], Field(max_length=16)] = {}
    warnings: Annotated[list[Message], _cut(MAX_WARNINGS)] = []
    encoding: Encoding | None = None
    rate: Seconds | None = None


class Totals(State):
    """Totals that the job's database row keeps. pixels: of the source; absent if its sender set the pace."""

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
    """The report `failed`. error: the name of the error's class."""

    error: Name
    message: Message


class Locked(BaseModel):
    """The report `locked`. holder: the attempt that holds the lock, for the log."""

    holder: Annotated[str, Field(strict=True, max_length=MAX_NAME), AfterValidator(_printable)]


Number = Annotated[int, Field(strict=True, ge=0, lt=MOST_RANGES)]  # of a range


class Ranges(BaseModel):
    """The report `ranges`: the ranges that are to be processed."""

    numbers: Annotated[list[Number], Field(max_length=MOST_RANGES)]


class Awaits(BaseModel):
    """The report `awaits`: the range that the attempt waits for."""

    number: Number


class Stage(BaseModel):
    """The time span of a stage, in seconds before the report. seconds: how long it was busy. frames: number processed."""

    name: StageName
    began_ago: Seconds
    ended_ago: Seconds
    seconds: Seconds
    frames: Count


class Stages(BaseModel):
    """The report `stages` of a traced attempt: sent once, before its verdict."""

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
    """Return the valid fields of an attempt's report, to be passed on; None if the report is invalid."""
    kind = report.get("report")
    shape = SHAPES.get(kind) if isinstance(kind, str) else None
    try:
        return (
            None if shape is None else {"report": kind, **shape.model_validate(report).model_dump(exclude_unset=True)}
        )
    except ValueError:
        return None


class Pace:
    """Rate limit of an attempt's reports. Reading pauses for an attempt that exceeds it, which blocks once the socket is full."""

    def __init__(self, wait: Callable[[float], None] = time.sleep, clock: Callable[[], float] = time.monotonic) -> None:
        self._wait, self._clock = wait, clock
        self._allowance, self._at = float(BURST_BYTES), clock()

    def keep(self, size: int) -> None:
        """Count a report of `size` bytes; wait until the next one may be read."""
        now = self._clock()
        self._allowance = min(BURST_BYTES, self._allowance + (now - self._at) * BYTES_A_SECOND) - max(size, LEAST_BYTES)
        self._at = now
        if self._allowance < 0:
            self._wait(-self._allowance / BYTES_A_SECOND)
