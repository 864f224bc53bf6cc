"""A job whose ranges several workers process: one verdict, and the result of a single worker, whatever dies."""

import asyncio
import os
import signal
from dataclasses import replace

import pytest
from ordered import Watched, ordered
from split import damaged

from upres.service.execution.base import ExecutorOptions
from upres.service.execution.local import LocalExecutor
from upres.service.execution.ranges.split_jobs import LOCK_SECONDS, MAX_LOCKED_SECONDS, PAUSE_SECONDS, SplitJobs

LONGEST_SECONDS = 240


def test_workers_make_ranges_of_one_job_to_the_result_of_one_worker_whatever_dies(tmp_path, clip, fake_models):
    async def scenario():
        executor = LocalExecutor(ExecutorOptions(workers=2, slots=2, models="fake:load", memory_bytes=4 << 30))
        source, watched = clip("a.mp4", 6), Watched(executor)
        try:
            async with asyncio.timeout(LONGEST_SECONDS):
                await watched.start()
                expected = await watched.result(watched.run_alone, ordered(tmp_path / "one", source))
                assert expected[1] == 60
                watched.change(0, lambda order: order)
                watched.change(1, lambda order: order, lambda worker: os.kill(worker._process.pid, signal.SIGKILL))
                assert await watched.result(executor.run, ordered(tmp_path / "killed", source)) == expected
                first, second = watched.ranges[0], watched.ranges[1]
                assert first and second and {*first, *second} == set(range(8))
                for number in (0, 1):
                    watched.change(number, lambda order: replace(order, range_number=99))
                assert await watched.result(executor.run, ordered(tmp_path / "failed", source)) == expected
        finally:
            await executor.stop()

    asyncio.run(scenario())


def test_a_job_that_goes_on_alone_is_fitted_to_its_source_again(tmp_path, fake_models):
    ten_bits = ("-c:v", "libx264", "-pix_fmt", "yuv420p10le", "-g", "8", "-bf", "3", "-x264-params", "scenecut=0")
    source = damaged(tmp_path / "in.mkv", 4, *ten_bits)

    async def scenario():
        executor = LocalExecutor(ExecutorOptions(workers=2, slots=2, models="fake:load", memory_bytes=4 << 30))
        watched, options = Watched(executor), {"prefilters": ("denoise-strong",)}
        try:
            async with asyncio.timeout(LONGEST_SECONDS):
                await watched.start()
                expected = await watched.result(watched.run_alone, ordered(tmp_path / "one", source, **options))
                watched.change(0, lambda order: order)
                watched.change(1, lambda order: order)
                assert await watched.result(executor.run, ordered(tmp_path / "two", source, **options)) == expected
                assert watched.ranges[0] or watched.ranges[1]
        finally:
            await executor.stop()

    asyncio.run(scenario())


@pytest.mark.parametrize("count", [1, 3])
def test_ranges_come_front_first_and_what_fails_comes_again(tmp_path, clip, count):
    jobs = SplitJobs()
    orders = [ordered(tmp_path / str(number), clip("a.mp4", 1)) for number in range(count)]
    for order in orders:
        jobs.start(order)
        assert jobs.split(order.request_id, range(3)) == set()
    first = [jobs.next() for _ in orders]
    assert {order.request_id for order in first} == {f"{number}/{number}.0" for number in range(count)}
    assert jobs.ended("0/0.0", {"report": "died"}) is None
    again = jobs.next()
    assert (again.request_id, again.range_number) == ("0/0.0", 0)
    assert jobs.ended("0/0.0", {"report": "died"}) is None
    assert jobs.next().request_id == "0/0.0"
    assert jobs.ended("0/0.0", {"report": "died"}) == "0"
    assert jobs.close("0", {"report": "died"}) == set()
    _, expected = jobs.settled("0")
    assert (expected.devices, expected.request_id) == (0, "0")
    assert "0" not in jobs and jobs.settled("0") is None


def test_ranges_are_for_workers_of_one_kind(tmp_path, clip):
    jobs = SplitJobs()
    jobs.start(ordered(tmp_path / "job", clip("a.mp4", 1)), "one GPU")
    jobs.split("job", range(2))
    assert jobs.next("another GPU") is None
    assert jobs.next("one GPU").range_number == 0


def test_a_range_that_is_locked_is_given_again_later_and_is_no_try_until_it_was_locked_for_too_long(tmp_path, clip):
    now, report = [0.0], {"report": "locked", "holder": "x"}
    jobs = SplitJobs(lambda: now[0])
    jobs.start(ordered(tmp_path / "job", clip("a.mp4", 1)))
    jobs.split("job", range(2))
    front, other = jobs.next(), jobs.next()
    assert (front.range_number, other.range_number, front.lock_seconds) == (0, 1, LOCK_SECONDS)
    while now[0] < MAX_LOCKED_SECONDS:
        assert jobs.ended(front.request_id, report) is None
        assert jobs.missed("job", 0) is None  # it is missing, and that is known
        assert jobs.next() is None
        now[0] += PAUSE_SECONDS
        assert jobs.next().request_id == front.request_id
    assert jobs.ended(front.request_id, report) == "job"
    assert jobs.close("job", {"report": "died"}) == {other.request_id}
    assert jobs.ended(other.request_id, {"report": "died"}) is None
    assert jobs.settled("job")[1].devices == 0


def test_a_range_that_was_locked_and_then_made_was_locked_no_time(tmp_path, clip):
    now = [0.0]
    jobs = SplitJobs(lambda: now[0])
    jobs.start(ordered(tmp_path / "job", clip("a.mp4", 1)))
    jobs.split("job", range(1))
    name = jobs.next().request_id
    for report in ("locked", "died", "locked"):
        assert jobs.ended(name, {"report": report}) is None
        now[0] += MAX_LOCKED_SECONDS / 2
        assert jobs.next().request_id == name
    assert jobs.ended(name, {"report": "made"}) is None


def test_an_order_that_met_a_dead_worker_is_no_try_once(tmp_path, clip):
    jobs = SplitJobs()
    jobs.start(ordered(tmp_path / "job", clip("a.mp4", 1)))
    jobs.split("job", range(1))
    lost, died = (
        {"report": "died", "worker": True, "started": False},
        {"report": "died", "worker": True, "started": True},
    )
    for report in (lost, died, lost):
        assert jobs.ended(jobs.next().request_id, report) is None
    assert jobs.ended(jobs.next().request_id, died) == "job"
