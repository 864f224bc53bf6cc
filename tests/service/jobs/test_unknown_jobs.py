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
from upres.service.storage import database

IMPATIENT = Policy(Limits(), queue=1, source_idle_seconds=0.2)


@pytest.fixture(autouse=True)
def often(monkeypatch):
    monkeypatch.setattr(recovery, "RECONCILE_SECONDS", 0.5)


class Loses:
    """Checkpoint that loses the response to one step after it is committed."""

    def __init__(self, *steps):
        self.steps, self.reached = [*steps], []

    def __call__(self, now):
        self.reached.append(now)
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


def test_a_client_that_repeats_a_request_which_created_its_job_continues_that_job(tmp_path, clip, fake_models):
    """At once, before the server finds out by itself that it has the job."""

    async def scenario():
        request_id = new_id()
        async with serving(tmp_path, checkpoint=Loses("added")) as jobs:
            with pytest.raises(StoreError):
                await jobs.create(SPEC, "alice", request_id=request_id)
            await jobs.write(request_id, 0, clip("a.mp4", 1).read_bytes())
            await jobs.end_source(request_id)
            job = await until(jobs, request_id, ended)
            assert (job.state.status, job.state.attempts) == (Status.DONE, 1)

    asyncio.run(scenario())


@pytest.mark.parametrize("step", ["added", "accept_source", "end_source"])
def test_no_job_is_left_of_a_request_whose_client_can_only_send_another_one(tmp_path, clip, fake_models, step):
    """The database stays away for longer than the server asks whether what it wrote was committed."""

    async def scenario():
        source = tmp_path / "source"
        source.write_bytes(clip("a.mp4", 1).read_bytes())
        lost = Loses("added" if step == "added" else "changed to pending", "delete", "delete")
        async with serving(tmp_path, policy=Policy(Limits(), queue=1), checkpoint=lost) as jobs:
            with pytest.raises(StoreError):
                job, _ = await jobs.create(SPEC, "alice")
                if step == "accept_source":
                    await jobs.accept_source(job, source)
                await jobs.write(job.request_id, 0, source.read_bytes())
                await jobs.end_source(job.request_id, named=False)
            async with asyncio.timeout(60):
                while jobs.store.page("alice"):
                    await asyncio.sleep(0.01)
            assert lost.steps == [] and "changed to processing" not in lost.reached
            job = await until(jobs, (await submit(jobs, clip("a.mp4", 1))).request_id, ended)  # the only place is free
            assert (job.state.status, job.state.attempts) == (Status.DONE, 1)

    asyncio.run(scenario())


def test_a_client_that_repeats_a_request_with_its_idempotency_key_gets_the_job_of_the_first(
    tmp_path, clip, fake_models
):
    async def scenario():
        paths = [tmp_path / name for name in ("first", "second")]
        for path in paths:
            path.write_bytes(clip("a.mp4", 1).read_bytes())
        async with serving(tmp_path, checkpoint=Loses("changed to pending", "delete")) as jobs:
            with pytest.raises(StoreError):
                await jobs.accept_source(
                    (await jobs.create(SPEC, "alice", idempotency="k", fingerprint="f"))[0], paths[0]
                )
            job, new = await jobs.create(SPEC, "alice", idempotency="k", fingerprint="f")
            assert not new and (await jobs.accept_source(job, paths[1])).accepted
            job = await until(jobs, job.request_id, ended)
            assert (job.state.status, job.state.attempts, len(jobs.store.page("alice"))) == (Status.DONE, 1, 1)

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
                dequeued = take(can_run)
                if dequeued is not None and not lost:
                    lost.append(dequeued)
                    raise StoreError("nobody knows")
                return dequeued

            jobs.store.shared_queue.take = loses
            job = await until(jobs, (await submit(jobs, clip("a.mp4", 1))).request_id, ended)
            assert (job.state.status, job.state.attempts, len(lost)) == (Status.DONE, 1, 1)

    asyncio.run(scenario())


@pytest.mark.scale
def test_a_database_that_stays_away_after_it_has_committed_a_job_makes_no_second_one(
    postgres, tmp_path, clip, fake_models, monkeypatch
):
    monkeypatch.setattr(database, "DOUBT_SECONDS", 0.0)
    source = tmp_path / "source"
    source.write_bytes(clip("a.mp4", 1).read_bytes())

    async def scenario():
        with LosingProxy(databases.fresh()) as proxy:

            def away(step):
                if step == "change to pending":
                    proxy.reached = False
                    proxy.lose_next()

            async with beside(tmp_path, proxy.url, policy=Policy(Limits(), queue=1)) as jobs:
                job, _ = await jobs.create(SPEC, "alice")
                monkeypatch.setattr(jobs.store, "_checkpoint", away)
                with pytest.raises(StoreError, match="cannot be used"):
                    await jobs.accept_source(job, source)
                monkeypatch.setattr(jobs.store, "_checkpoint", lambda step: None)
                proxy.reached = True
                assert proxy.lost == 1 and jobs.store.get(job.request_id).accepted
                async with asyncio.timeout(60):
                    while jobs.store.page("alice"):
                        await asyncio.sleep(0.01)
                job = await until(jobs, (await submit(jobs, clip("a.mp4", 1))).request_id, ended)
                assert (job.state.status, job.state.attempts) == (Status.DONE, 1)

    asyncio.run(scenario())
