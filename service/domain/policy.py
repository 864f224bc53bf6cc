"""What the operator allows: waiting jobs, time, memory, disk, and the log of a live job. Limits of one job: `spec.Limits`."""

from dataclasses import dataclass, field

from .spec import Limits


@dataclass(frozen=True, slots=True)
class LiveLogBounds:
    """What the log of a live job holds at most; whichever is less."""

    bytes: int = 64 << 20
    seconds: float = 10.0


@dataclass(frozen=True, slots=True)
class Policy:
    """What the operator allows. seconds, bytes as named; source_idle_seconds: the longest a sender may be silent, and the
    longest that a client may take nothing of a live log that waits for it.
    """

    limits: Limits
    queue: int = 256
    wall_seconds: float = 3600.0
    memory_bytes: int = 16 << 30
    source_idle_seconds: float = 60.0
    free_bytes: int = 1 << 30
    live_log: LiveLogBounds = field(default_factory=LiveLogBounds)
