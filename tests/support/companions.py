"""Models for companion processes that process ranges, and a helper that waits for such a process."""

import os
import signal
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from fake import Nearest, NearestSession
from paths import SUPPORT

from upres.engine.core.model import Model
from upres.engine.ranges.process import Companion

LONGEST_SECONDS = 120  # for a process to start and load its model


@dataclass(frozen=True)
class Dying(Nearest):
    """Kills its process once, when opened while the marker file exists."""

    marker: Path = Path()

    def open(self, width: int, height: int) -> NearestSession:
        if self.marker.exists():
            self.marker.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().open(width, height)


@dataclass(frozen=True)
class Waiting(Nearest):
    """Blocks in `open` while the marker file exists."""

    marker: Path = Path()

    def open(self, width: int, height: int) -> NearestSession:
        end = time.monotonic() + LONGEST_SECONDS
        while self.marker.exists() and time.monotonic() < end:
            time.sleep(0.02)
        return super().open(width, height)


def load(marker: Path, name: str) -> tuple[Model, ...]:
    return (Dying(name=name, marker=marker),)


def companion(marker: Path, name: str = "nearest") -> Companion:
    return Companion({"PYTHONPATH": str(SUPPORT)}, partial(load, marker, name))
