"""What an executor is asked to run: one attempt at one job."""

from dataclasses import dataclass
from typing import Any

NUMBERED = "@"


@dataclass(frozen=True, slots=True)
class Order:
    """One attempt. owner: whose job it is. folder: the job's. spec, limits: as JSON.

    devices: how many may make ranges of it; 0 where it is made as one, whatever there is of ranges.
    range_number: it is only for that range of the job's, whose plan lies in the folder.
    lock_seconds: that it waits for the lock of what it works on, before it is given back. The rest bounds what the attempt's
    process may use; None sets no bound. free_bytes: of the disk, that it leaves free. traceparent: of the attempt's span, where the
    job is traced; then the attempt reports `stages`.
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
        """Name it as the lines of a log do."""
        return self.request_id.partition(NUMBERED)[0]

    @property
    def live(self) -> bool:
        """Whether its source is live."""
        return bool(self.spec.get("live"))


def numbered(request_id: str, number: int) -> str:
    """Name an order so that no other has its name, where several servers give orders; lines of a log name it as before."""
    return f"{request_id}{NUMBERED}{number}"
