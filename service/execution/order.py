"""The unit of work of an executor: one attempt at one job."""

from dataclasses import dataclass
from typing import Any

NUMBERED = "@"


@dataclass(frozen=True, slots=True)
class Order:
    """One attempt. owner: the job's owner. folder: the job's folder. spec, limits: as JSON.

    devices: the number of devices that may process ranges of it; 0 processes it as a whole, even if it has ranges.
    range_number: process only this range of the job, whose plan is in the folder.
    lock_seconds: how long the attempt waits for the lock of its work before it is reported as `locked`. memory_bytes, cpu_seconds,
    file_bytes, wall_seconds: limits of the attempt's process; None sets no limit. free_bytes: disk space to leave free.
    traceparent: of the attempt's span, if the job is traced; the attempt then reports `stages`.
    """

    request_id: str
    owner: str
    folder: str
    spec: dict[str, Any]
    limits: dict[str, Any]
    memory_bytes: int
    cpu_seconds: int | None
    file_bytes: int
    wall_seconds: float | None
    free_bytes: int = 0
    devices: int = 0
    range_number: int | None = None
    lock_seconds: float = 30.0
    traceparent: str | None = None

    @property
    def logged(self) -> str:
        """The name of the order in log lines: the job's id."""
        return self.request_id.partition(NUMBERED)[0]

    @property
    def live(self) -> bool:
        """Whether the job's source is live."""
        return bool(self.spec.get("live"))


def numbered(request_id: str, number: int) -> str:
    """Return a name that is unique among the orders of several servers; log lines still use the job's id."""
    return f"{request_id}{NUMBERED}{number}"
