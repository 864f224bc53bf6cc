"""Settings of a process: its resource limits, name and stdout, and its dependence on its parent process."""

import os
import resource
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from .libc import libc

PR_SET_PDEATHSIG = 1  # linux/prctl.h
PR_SET_NAME = 15
NAME_BYTES = 15
OOM_SCORE = Path("/proc/self/oom_score_adj")


@dataclass(frozen=True, slots=True)
class Bounds:
    """Resource limits of a process. memory_bytes: of address space. cpu_seconds: None sets no limit."""

    memory_bytes: int
    cpu_seconds: int | None
    file_bytes: int


def bound(bounds: Bounds) -> None:
    """Limit this process permanently; lower existing limits are kept."""
    limits = {
        resource.RLIMIT_AS: bounds.memory_bytes,
        resource.RLIMIT_FSIZE: bounds.file_bytes,
        resource.RLIMIT_CORE: 0,
    }
    if bounds.cpu_seconds is not None:
        limits[resource.RLIMIT_CPU] = bounds.cpu_seconds
    for kind, limit in limits.items():
        hard = resource.getrlimit(kind)[1]
        limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(kind, (limit, limit))


def die_with_parent() -> None:
    """Arrange for this process to be killed when its parent dies, for any reason; Linux only."""
    if sys.platform == "linux":
        parent = os.getppid()
        libc().prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)


def be_killed_first() -> None:
    """Make the kernel kill this process before the server if memory runs out; Linux only."""
    with suppress(OSError):
        OOM_SCORE.write_text("1000")


def name_process(name: str) -> None:
    """Set this process's name as shown by `ps` and `top`; Linux only."""
    if sys.platform == "linux":
        libc().prctl(PR_SET_NAME, name.encode()[:NAME_BYTES], 0, 0, 0)


@contextmanager
def reserve_stdout() -> Iterator[IO[str]]:
    """Reserve stdout for reports: redirect anything that a library prints to stderr."""
    with os.fdopen(os.dup(1), "w") as reports:
        os.dup2(2, 1)
        yield reports
