"""Orders for an executor, and their results."""

import asyncio
import shutil
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path

from upres.service.domain.spec import Limits, Spec
from upres.service.execution.base import VERDICTS
from upres.service.execution.order import Order
from upres.service.storage.job_folder import JobFolder


def ordered(folder, clip, **spec):
    """Return an order for a job with this source."""
    job = JobFolder(folder)
    job.make()
    shutil.copy(clip, job.source)
    job.end_source()
    settings = Spec("RealESRGAN_Vid_x2", **{"segment_seconds": 0.5, "preset": "ultrafast", **spec})
    return Order(
        folder.name, "alice", str(folder), settings.as_json(), asdict(Limits()),
        memory_bytes=4 << 30, cpu_seconds=None, file_bytes=1 << 30, wall_seconds=None,
    )  # fmt: skip


class Watched:
    """An executor with several workers, and the results of its orders. ranges: indices of the ranges given to each worker."""

    def __init__(self, executor):
        self.executor = executor
        self.ranges = defaultdict(list)
        self._reports, self._ended = [], asyncio.Event()

    async def start(self, workers=2):
        await self.executor.start(self._take)
        await self.ready(workers)

    async def ready(self, workers):
        while sum(worker.ready for worker in self.executor._workers) != workers:
            await asyncio.sleep(0.05)

    async def run_alone(self, order):
        """Give an order to one worker, as a job without ranges."""
        await self.executor._roomiest(order).run(order)

    async def result(self, give, order):
        """Return the bytes and the frame count of a job's result. give: called as the executor's `run`.

        How many fragments were reported says nothing: the latest report is enough where several wait.
        """
        self._reports.clear()
        self._ended.clear()
        await give(order)
        verdict = await self.verdict()
        assert verdict["report"] == "joined", verdict
        return JobFolder(Path(order.folder)).joined.read_bytes(), self._reports[-1]["totals"]["frames"]

    async def verdict(self):
        """Return the report that ends a job."""
        await self._ended.wait()
        return self._reports[-1]

    def change(self, number, change, then=lambda worker: None):
        """Change the range orders that a worker receives. then: called once, after the first of them."""
        worker, received = self.executor._workers[number], self.ranges[number]
        run = type(worker).run

        async def changed(order):
            is_range = order.range_number is not None
            received.extend([order.range_number] * is_range)
            await run(worker, change(order) if is_range else order)
            if is_range and len(received) == 1:
                then(worker)

        worker.run = changed

    async def _take(self, request_id, report):
        if request_id:
            self._reports.append(report)
            if report["report"] in VERDICTS:
                self._ended.set()
