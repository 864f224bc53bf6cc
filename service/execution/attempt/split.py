"""An attempt whose job is made in ranges, each an attempt of its own on any device: this one plans, merges and joins."""

import time
from collections.abc import Generator

from upres.engine.decode.reader import Reader
from upres.engine.pipeline.options import Job
from upres.engine.pipeline.progress import Progress
from upres.engine.ranges.folder import Ranges
from upres.engine.ranges.merger import SeamError, merged
from upres.engine.ranges.plan import Plan, plan
from upres.engine.segments.folder import FolderLog
from upres.engine.segments.model import Fragment
from upres.service.execution.channel import Channel

POLL_SECONDS = 0.05  # between two looks for segments of ranges that are being made


class Split:
    """The ranges of one job, reported to the executor, which has them made. devices: how many may make some."""

    def __init__(self, channel: Channel, ranges: Ranges, devices: int) -> None:
        self._channel, self._ranges, self._devices = channel, ranges, devices

    def plans(self, reader: Reader, job: Job) -> bool:
        """Plan a job, once for all attempts at it; tell whether it is made in ranges, which are then asked for."""
        if (planned := self._ranges.plan) is None:
            planned = plan(reader, job, self._devices)
            self._ranges.keep(planned)
        if len(planned.spans) < 2:
            return False
        self._report(len(planned.spans))
        return True

    def merged(self, reader: Reader, job: Job, log: FolderLog, progress: Progress) -> Generator[Fragment]:
        """Make the job's log of its ranges; SeamError where they cannot be used."""
        yield from merged(reader, job, log, self._ranges, progress, lambda: time.sleep(POLL_SECONDS))

    def give_up(self, error: SeamError) -> None:
        """Make the job without ranges, by this attempt and every later one."""
        self._report(0)
        self._ranges.keep(Plan(why=str(error)))

    def _report(self, count: int) -> None:
        self._channel.send({"report": "ranges", "count": count})
