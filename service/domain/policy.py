"""The operator's policy: waiting jobs, time, memory, disk, and the log of a live job. `spec.Limits` has the limits of one job."""

from dataclasses import dataclass, field

from .spec import Limits


@dataclass(frozen=True, slots=True)
class LiveLogBounds:
    """Upper bounds of a live job's log; the smaller one applies."""

    bytes: int = 64 << 20
    seconds: float = 10.0


@dataclass(frozen=True, slots=True)
class Policy:
    """The operator's policy.

    limits: for each request. queue: maximum number of waiting jobs. wall_seconds, memory_bytes: of an attempt.
    source_idle_seconds: idle timeout of a sender, and of a client for which a live log waits. free_bytes: disk space to leave free.
    """

    limits: Limits
    queue: int = 256
    wall_seconds: float = 3600.0
    memory_bytes: int = 16 << 30
    source_idle_seconds: float = 60.0
    free_bytes: int = 1 << 30
    live_log: LiveLogBounds = field(default_factory=LiveLogBounds)
