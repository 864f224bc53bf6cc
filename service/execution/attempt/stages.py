"""Timing of the stages of a traced attempt: one report at its end, regardless of the number of frames.

An attempt does not know where spans are sent. It reports how long ago a stage began, so other machines' clocks do not matter.
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
    """Start and end on the monotonic clock, in seconds. busy: seconds of work in between."""

    began: float
    ended: float
    busy: float = 0.0


@dataclass(slots=True)
class TimedProgress(Progress):
    """Progress that also records when each stage began and ended. stages: by name, those of this process."""

    stages: dict[str, Stage] = field(default_factory=dict)

    @contextmanager
    def busy(self, stage: str, clock: Callable[[], float] = time.perf_counter) -> Iterator[None]:
        """Count the time spent in the context."""
        now = time.monotonic()
        times = self.stages.setdefault(stage, Stage(now, now))
        try:
            with Progress.busy(self, stage, clock):
                yield
        finally:
            times.ended = time.monotonic()
            times.busy += times.ended - now

    def report(self) -> dict[str, Any]:
        """Return the report `stages`."""
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
    """Report the stages of the context when it ends, also after an error, if they are timed."""
    try:
        yield
    finally:
        if isinstance(progress, TimedProgress) and progress.stages:
            channel.send(progress.report())
