"""A job whose ranges are made by several workers: one verdict, and the result of one worker, whatever dies."""

import asyncio
import os
import shutil
import signal
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from upres.service.domain.spec import Limits, Spec
from upres.service.execution.base import VERDICTS
from upres.service.execution.local import LocalExecutor
from upres.service.execution.order import Order
from upres.service.execution.ranges.split_jobs import SplitJobs
from upres.service.storage.job_folder import JobFolder

LONGEST_SECONDS = 240


def ordered(folder, clip, **spec):
    """An order for a job with this source."""
    job = JobFolder(folder)
    job.make()
    shutil.copy(clip, job.source)
    job.end_source()
    wanted = Spec("RealESRGAN_Vid_x2", **{"segment_seconds": 0.5, "preset": "ultrafast", **spec})
    return Order(
        folder.name, "alice", str(folder), wanted.as_json(), asdict(Limits()),
        memory_bytes=4 << 30, cpu_seconds=None, file_bytes=1 << 30, wall_seconds=None,
    )  # fmt: skip


class Watched:
    """An executor of two workers, and what comes of its orders. ranges: by worker, those that it was asked for."""

    def __init__(self):
        self.executor = LocalExecutor(workers=2, slots=2, models="fake:load", memory_bytes=4 << 30)
        self.ranges = ([], [])
        self._reports, self._ended = [], asyncio.Event()

    async def start(self):
        await self.executor.start(self._take)
        while not all(worker.ready for worker in self.executor._workers):
            await asyncio.sleep(0.05)

    async def result(self, give, order):
        """The bytes of a job's result, its frames, and how many fragments were reported. give: a method of the executor's."""
        self._reports.clear()
        self._ended.clear()
        await give(order)
        await self._ended.wait()
        assert self._reports[-1]["report"] == "joined", self._reports[-1]
        fragments = sum(report["report"] == "fragment" for report in self._reports)
        return JobFolder(Path(order.folder)).joined.read_bytes(), self._reports[-1]["totals"]["frames"], fragments

    def change(self, number, change, then=lambda worker: None):
        """Change the orders of ranges that a worker gets. then: called once, after the first of them."""
        worker, asked = self.executor._workers[number], self.ranges[number]
        run = type(worker).run

        async def changed(order):
            is_range = order.range_number is not None
            asked.extend([order.range_number] * is_range)
            await run(worker, change(order) if is_range else order)
            if is_range and len(asked) == 1:
                then(worker)

        worker.run = changed

    async def _take(self, request_id, report):
        if request_id:
            self._reports.append(report)
            if report["report"] in VERDICTS:
                self._ended.set()


def test_workers_make_ranges_of_one_job_to_the_result_of_one_worker_whatever_dies(tmp_path, clip, fake_models):
    async def scenario():
        source, watched = clip("a.mp4", 6), Watched()
        executor = watched.executor
        try:
            async with asyncio.timeout(LONGEST_SECONDS):
                await watched.start()
                alone = await watched.result(executor._give, ordered(tmp_path / "one", source))
                assert alone[1] == 60
                watched.change(0, lambda order: order)
                watched.change(1, lambda order: order, lambda worker: os.kill(worker._process.pid, signal.SIGKILL))
                assert await watched.result(executor.run, ordered(tmp_path / "killed", source)) == alone
                assert all(watched.ranges) and {*watched.ranges[0], *watched.ranges[1]} == set(range(6))
                for number in (0, 1):
                    watched.change(number, lambda order: replace(order, range_number=99))
                assert await watched.result(executor.run, ordered(tmp_path / "failed", source)) == alone
        finally:
            await executor.stop()

    asyncio.run(scenario())


@pytest.mark.parametrize("count", [1, 3])
def test_ranges_come_front_first_and_what_fails_comes_again(tmp_path, clip, count):
    jobs = SplitJobs()
    orders = [ordered(tmp_path / str(number), clip("a.mp4", 1)) for number in range(count)]
    for order in orders:
        jobs.start(order)
        assert jobs.split(order.request_id, 3) == set()
    first = [jobs.next() for _ in orders]
    assert {order.request_id for order in first} == {f"{number}/0" for number in range(count)}
    assert jobs.ended("0/0", {"report": "died"}) is None
    again = jobs.next()
    assert (again.request_id, again.range_number) == ("0/0", 0)
    assert jobs.ended("0/0", {"report": "died"}) is None
    assert jobs.next().request_id == "0/0"
    assert jobs.ended("0/0", {"report": "died"}) == "0"
    under_way, alone = jobs.close("0")
    assert (under_way, alone.devices, alone.request_id) == (set(), 1, "0")
    assert jobs.close("0") == (set(), None)


def test_ranges_are_for_workers_of_one_kind(tmp_path, clip):
    jobs = SplitJobs()
    jobs.start(ordered(tmp_path / "job", clip("a.mp4", 1)), "one GPU")
    jobs.split("job", 2)
    assert jobs.next("another GPU") is None
    assert jobs.next("one GPU").range_number == 0
