"""When the stages of an attempt worked whose job is traced: one report at its end, however many frames there were.

An attempt knows nothing of where spans go. It says how long ago a stage began, so that clocks of other machines do not matter.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, get_args

from upres.engine.pipeline.progress import Progress
from upres.service.execution.channel import Channel
from upres.service.execution.report_shape import StageName


@dataclass(slots=True)
class Stage:
    """On the monotonic clock, in seconds. busy: of them."""

    began: float
    ended: float
    busy: float = 0.0


@dataclass(slots=True)
class TimedProgress(Progress):
    """Progress that also keeps when each stage began and ended. stages: those that this process worked at, by name."""

    stages: dict[str, Stage] = field(default_factory=dict)

    @contextmanager
    def busy(self, stage: str, clock: Callable[[], float] = time.perf_counter) -> Iterator[None]:
        """Count the time spent inside."""
        now = time.monotonic()
        times = self.stages.setdefault(stage, Stage(now, now))
        try:
            with Progress.busy(self, stage, clock):
                yield
        finally:
            times.ended = time.monotonic()
            times.busy += times.ended - now

    def report(self) -> dict[str, Any]:
        """Make the report `stages`."""
        now = time.monotonic()
        return {
            "report": "stages",
            "stages": [
                {
                    "name": name,
                    "began_ago": now - stage.began,
                    "ended_ago": now - stage.ended,
                    "seconds": stage.busy,
                    "frames": self.frames_in if name == "read" else self.frames_out,
                }
                for name, stage in [*self.stages.items()]
                if name in get_args(StageName)
            ],
        }


@contextmanager
def reported(progress: Progress, channel: Channel) -> Iterator[None]:
    """Report the stages worked at inside, however that ends, where they are timed."""
    try:
        yield
    finally:
        if isinstance(progress, TimedProgress) and progress.stages:
            channel.send(progress.report())
