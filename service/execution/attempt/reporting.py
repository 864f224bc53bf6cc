"""Progress reports of an attempt, and its totals at the end."""

import time
from dataclasses import asdict
from typing import Any

from upres.engine.pipeline.progress import Progress
from upres.service.execution.channel import Channel

INTERVAL_SECONDS = 0.25  # between two reports of progress


class Reporter:
    """Sends the reports of one attempt. expected: number of frames of the result; 0 while unknown."""

    def __init__(self, channel: Channel, progress: Progress) -> None:
        self.progress = progress
        self.expected = 0
        self._channel = channel
        self._reported = 0.0

    def send(self, kind: str) -> None:
        """Send a report that consists of its kind only."""
        self._channel.send({"report": kind})

    def tick(self) -> None:
        """Report progress, at most once per interval."""
        if time.monotonic() - self._reported > INTERVAL_SECONDS:
            self.report()

    def report(self) -> None:
        """Report progress now."""
        self._reported = time.monotonic()
        percent = min(99.0, 100 * self.progress.frames_out / self.expected) if self.expected else 0.0
        self._channel.send({"report": "progress", "percent": percent, "state": self.progress.as_json()})

    def totals(self, frames: int, seconds: float, *, paced: bool) -> dict[str, Any]:
        """Return the totals for the job's row. paced: the sender set the pace, so the duration does not reflect the pixel rate."""
        shape, repairs = self.progress.shape, asdict(self.progress.repairs)
        totals = {**self.progress.as_json(), "frames": frames, "duration_seconds": seconds, "repairs": repairs}
        if shape is not None and not paced:
            totals["pixels"] = frames * shape.width * shape.height  # of the source
        return totals
