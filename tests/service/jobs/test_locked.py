"""Retries of jobs: later and uncounted if another attempt locks their folder, at once if an attempt fails."""

import asyncio

import pytest
from running_jobs import SPEC, ended, serving, submit, until

from upres.service.domain.states import Failure, Reason, Status
from upres.service.jobs import fair_queue
from upres.service.jobs.attempts.completion import Completion
from upres.service.jobs.fair_queue import (
    LONGEST_PAUSE,
    MAX_LOCKED_RETRIES,
    MAX_OUTAGE_RETRIES,
    PAUSE_SECONDS,
    RetryDelays,
)

DONE = {"report": "joined", "totals": {"frames": 1, "duration_seconds": 0.1, "seconds": {}}}
LOCKED_REPORT = {"report": "locked", "holder": "process 7 on another machine"}


class OneSlot:
    """Executor of one slot whose attempts end at once. says: returns the report for a job."""

    ready, unavailable, live_room, shortages = True, {}, 0, ()

    def __init__(self, says):
        self.says, self.room, self.ran = says, 1, []

    async def start(self, on_report):
        self.on_report = on_report

    async def run(self, order):
        assert self.room
        self.room = 0
        self.ran.append(order.request_id)
        asyncio.get_running_loop().call_soon(self._end, order)

    def _end(self, order):
        self.room = 1
        self.task = asyncio.get_running_loop().create_task(
            self.on_report(order.request_id, dict(self.says(order.request_id)))
        )

    async def cancel(self, request_id):
        pass

    async def stop(self):
        pass


@pytest.fixture
def nothing_is_stored(monkeypatch):
    async def store(self, job):
        return 1

    monkeypatch.setattr(Completion, "_store_result", store)


def test_a_job_whose_folder_is_held_lets_others_work_and_loses_no_attempt(
    tmp_path, clip, monkeypatch, nothing_is_stored
):
    monkeypatch.setattr(fair_queue, "PAUSE_SECONDS", 0.01)
    jobs_seen = []

    def says(request_id):
        locked = request_id == jobs_seen[0] and executor.ran.count(request_id) <= 6
        return LOCKED_REPORT if locked else DONE

    executor = OneSlot(says)

    async def scenario():
        async with serving(tmp_path, executor=executor) as jobs:
            job, _ = await jobs.create(SPEC, "alice")
            jobs_seen.append(job.request_id)
            await jobs.write(job.request_id, 0, clip("a.mp4", 1).read_bytes())
            await jobs.end_source(job.request_id)
            other = await until(jobs, (await submit(jobs, clip("a.mp4", 1))).request_id, ended)
            job = await until(jobs, job.request_id, ended)
            assert [each.state.status for each in (other, job)] == [Status.DONE] * 2
            assert job.state.attempts == 1 and executor.ran.count(job.request_id) == 7

    asyncio.run(scenario())


def test_a_folder_that_is_never_released_ends_its_job_and_the_log_says_who_has_it(tmp_path, clip, monkeypatch, caplog):
    monkeypatch.setattr(fair_queue, "PAUSE_SECONDS", 0.0)

    async def scenario():
        async with serving(tmp_path, executor=OneSlot(lambda request_id: LOCKED_REPORT)) as jobs:
            job = await until(jobs, (await submit(jobs, clip("a.mp4", 1))).request_id, ended)
            assert job.state.failure.reason is Reason.PROCESSING_FAILED and job.state.failure.reason.retryable
            assert "holds its files and does not end" in job.state.failure.message
            assert jobs.scheduler.executor.ran.count(job.request_id) == MAX_LOCKED_RETRIES + 1

    asyncio.run(scenario())
    assert "locked by process 7 on another machine, which does not end" in caplog.text


def test_a_job_that_fails_at_every_attempt_reports_why(tmp_path, clip, caplog):
    why = "the log cannot be written (no space left on device)"

    async def scenario():
        failed = {"report": "failed", "error": "TargetError", "message": why}
        async with serving(tmp_path, executor=OneSlot(lambda request_id: failed)) as jobs:
            job = await until(jobs, (await submit(jobs, clip("a.mp4", 1))).request_id, ended)
            assert (job.state.attempts, job.state.failure) == (3, Failure(Reason.PROCESSING_FAILED, why))

    asyncio.run(scenario())
    assert f"attempt 1 failed: {why}" in caplog.text


def test_one_that_waits_to_be_tried_again_can_be_cancelled(tmp_path, clip):
    async def scenario():
        async with serving(tmp_path, executor=OneSlot(lambda request_id: LOCKED_REPORT)) as jobs:
            job = await submit(jobs, clip("a.mp4", 1))
            while not jobs.scheduler.delays._waiting:
                await asyncio.sleep(0.01)
            assert (await jobs.cancel(job.request_id, "alice")).state.failure.reason is Reason.CANCELLED
            assert not jobs.scheduler.delays._waiting and not jobs.scheduler.delays._retries

    asyncio.run(scenario())


def test_the_pauses_grow_and_end_and_an_attempt_that_was_not_locked_forgets_them():
    now = [0.0]
    later = RetryDelays(lambda: now[0])
    pauses = [later.put("a", "alice") for _ in range(MAX_LOCKED_RETRIES + 1)]
    assert pauses[:3] == [PAUSE_SECONDS, 2 * PAUSE_SECONDS, 4 * PAUSE_SECONDS]
    assert pauses[-2:] == [LONGEST_PAUSE, None]
    assert later.due() == []
    now[0] = LONGEST_PAUSE
    assert later.due() == [("a", "alice")] and later.due() == []
    later.forget("a")
    assert later.put("a", "alice") == PAUSE_SECONDS


def test_what_waits_for_a_store_or_a_disk_waits_for_a_day_and_is_then_locked_as_often_as_any():
    later = RetryDelays(lambda: 0.0)
    waited = sum(later.put("a", "alice", outage=True) for _ in range(MAX_OUTAGE_RETRIES))
    assert 86400 - 200 < waited <= 86400
    assert [later.put("a", "alice") for _ in range(MAX_LOCKED_RETRIES + 1)] == [LONGEST_PAUSE] * MAX_LOCKED_RETRIES + [
        None
    ]
    later.forget("a")
    assert [later.put("a", "alice", outage=True) is None for _ in range(MAX_OUTAGE_RETRIES + 1)] == [
        False
    ] * MAX_OUTAGE_RETRIES + [True]
