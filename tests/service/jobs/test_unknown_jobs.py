"""Committed changes whose response was lost: no job is left without a server, and none is attempted wrongly."""

import asyncio
from dataclasses import replace

import databases
import pytest
from losing_proxy import LosingProxy
from running_jobs import SPEC, beside, ended, published, result, serving, submit, until

from upres.service.domain.errors import StoreError
from upres.service.domain.policy import Policy
from upres.service.domain.request_id import new_id
from upres.service.domain.spec import Limits
from upres.service.domain.states import Reason, Status
from upres.service.jobs import recovery

IMPATIENT = Policy(Limits(), queue=1, source_idle_seconds=0.2)


@pytest.fixture(autouse=True)
def often(monkeypatch):
    monkeypatch.setattr(recovery, "RECONCILE_SECONDS", 0.5)


class Loses:
    """Checkpoint that loses the response to one step after it is committed."""

    def __init__(self, step):
        self.steps = [step]

    def __call__(self, now):
        if now in self.steps:
            self.steps.remove(now)
            raise StoreError("nobody knows")


def test_a_source_that_was_taken_as_whole_waits_for_no_answer(tmp_path, clip, fake_models):
    async def scenario():
        async with serving(tmp_path, checkpoint=Loses("changed to pending")) as jobs:
            job, _ = await jobs.create(SPEC, "alice")
            await jobs.write(job.request_id, 0, clip("a.mp4", 1).read_bytes())
            with pytest.raises(StoreError):
                await jobs.end_source(job.request_id)
            assert (await jobs.end_source(job.request_id)).accepted  # as its client retries
            job = await until(jobs, job.request_id, ended)
            assert (job.state.status, job.state.attempts) == (Status.DONE, 1)

    asyncio.run(scenario())


@pytest.mark.parametrize("step", ["changed to processing", "changed to done"])
def test_an_attempt_counts_once_however_often_it_is_noted(tmp_path, clip, fake_models, step):
    async def scenario():
        async with serving(tmp_path, checkpoint=(lost := Loses(step))) as jobs:
            job = await until(jobs, (await submit(jobs, clip("a.mp4", 1))).request_id, ended)
            assert (job.state.status, job.state.attempts, lost.steps) == (Status.DONE, 1, [])
            assert (await result(jobs, job.request_id, tmp_path / "out.mp4")).stat().st_size

    asyncio.run(scenario())


@pytest.mark.parametrize("live", [False, True])
def test_a_job_whose_creation_was_not_answered_does_not_stay(tmp_path, live, fake_models, clip):
    async def scenario():
        request_id, lost = new_id(), Loses("nothing")
        async with serving(tmp_path, policy=IMPATIENT, checkpoint=lost) as jobs:
            await until(jobs, (await submit(jobs, clip("a.mp4", 1))).request_id, ended)  # the worker is ready
            lost.steps.append("added")
            with pytest.raises(StoreError):
                await jobs.create(replace(SPEC, live=live, streamed=live), "alice", request_id=request_id)
            job = await until(jobs, request_id, ended)
            assert job.state.failure.reason is (Reason.PROCESSING_FAILED if live else Reason.SOURCE_INCOMPLETE)
            assert (await jobs.create(SPEC, "alice"))[1]  # the only place in the queue is free

    asyncio.run(scenario())


def test_an_attempt_at_a_job_that_has_ended_ends(tmp_path, clip, fake_models):
    async def scenario():
        async with serving(tmp_path, checkpoint=Loses("changed to error")) as jobs:
            job, _ = await jobs.create(replace(SPEC, streamed=True), "alice")
            data = clip("a.ts").read_bytes()
            await jobs.write(job.request_id, 0, data[: len(data) * 3 // 4])
            await until(jobs, job.request_id, published(jobs))
            with pytest.raises(StoreError):
                await jobs.cancel(job.request_id, "alice")
            async with asyncio.timeout(60):
                while jobs.scheduler.attempts or job.request_id in jobs._intake.expected:
                    await asyncio.sleep(0.01)

    asyncio.run(scenario())


@pytest.mark.scale
def test_a_job_ends_as_ever_though_half_of_all_answers_are_lost(postgres, tmp_path, clip, fake_models):

    async def scenario():
        with LosingProxy(databases.fresh()) as proxy:
            async with beside(tmp_path, proxy.url) as jobs:
                proxy.each = 2
                for _ in range(3):
                    job = await until(jobs, (await submit(jobs, clip("a.mp4", 1))).request_id, ended)
                    assert (job.state.status, job.state.attempts) == (Status.DONE, 1)
                proxy.each = 0
                assert proxy.lost > 6

    asyncio.run(scenario())


@pytest.mark.scale
def test_a_job_that_a_server_has_taken_and_does_not_know_of_is_attempted(postgres, tmp_path, clip, fake_models):
    """It could not find out in time whether it has taken the job."""

    async def scenario():
        async with beside(tmp_path, databases.fresh()) as jobs:
            take, lost = jobs.store.shared_queue.take, []

            def loses(can_run):
                taken = take(can_run)
                if taken is not None and not lost:
                    lost.append(taken)
                    raise StoreError("nobody knows")
                return taken

            jobs.store.shared_queue.take = loses
            job = await until(jobs, (await submit(jobs, clip("a.mp4", 1))).request_id, ended)
            assert (job.state.status, job.state.attempts, len(lost)) == (Status.DONE, 1, 1)

    asyncio.run(scenario())
