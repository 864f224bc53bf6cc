"""Race conditions between clients, attempts and the end of a job."""

import asyncio
import gc
from dataclasses import replace

import pytest
from running_jobs import SPEC, ended, serving, submit, until

from upres.service.domain.errors import (
    BusyError,
    NotFoundError,
)
from upres.service.domain.policy import Policy
from upres.service.domain.request_id import new_id
from upres.service.domain.spec import Limits
from upres.service.domain.states import Failure, Reason, Status, TransitionError
from upres.service.execution.base import ExecutorOptions
from upres.service.execution.local import LocalExecutor
from upres.service.jobs.follow import follow_events
from upres.service.storage.job_folder import JobFolder

pytestmark = pytest.mark.usefixtures("fake_models")


class Cut:
    """Cancels a task during a database step, as a client does that disconnects at that moment."""

    def __init__(self, step):
        self.step, self.task = step, None

    def __call__(self, now):
        if self.task is not None and now == self.step:
            task, self.task = self.task, None
            loop = task.get_loop()
            loop.call_soon_threadsafe(task.cancel)
            asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result(10)

    async def of(self, doing):
        self.task = asyncio.create_task(doing)
        with pytest.raises(asyncio.CancelledError):
            await self.task


def test_a_client_that_goes_as_its_job_is_accepted_loses_it_not(tmp_path, clip):
    async def scenario():
        cut = Cut("changed to pending")
        async with serving(tmp_path, checkpoint=cut) as jobs:
            job, _ = await jobs.create(SPEC, "alice")
            await jobs.write(job.request_id, 0, clip().read_bytes())
            await cut.of(jobs.end_source(job.request_id))
            assert (await until(jobs, job.request_id, ended)).state.status is Status.DONE

    asyncio.run(scenario())


@pytest.mark.parametrize("step", ["added", "changed to processing"])
def test_a_client_that_goes_as_its_live_job_begins_leaves_nothing_behind(tmp_path, clip, step):
    async def scenario():
        cut, request_id = Cut(step), new_id()
        spec = replace(SPEC, streamed=True, live=True)
        async with serving(tmp_path, checkpoint=cut) as jobs:
            await until(jobs, (await submit(jobs, clip())).request_id, ended)
            await cut.of(jobs.create(spec, "alice", request_id=request_id))
            assert (await until(jobs, request_id, ended)).state.status is Status.ERROR
            assert not jobs.folder(request_id).path.exists()
            assert (await jobs.create(spec, "alice"))[1]  # the slot is free

    asyncio.run(scenario())


def test_a_client_that_goes_as_its_upload_begins_is_given_up_like_others(tmp_path):
    async def scenario():
        cut, request_id = Cut("added"), new_id()
        async with serving(tmp_path, policy=Policy(Limits(), source_idle_seconds=0.1), checkpoint=cut) as jobs:
            await cut.of(jobs.create(SPEC, "alice", request_id=request_id))
            job = await until(jobs, request_id, ended)
            assert job.state.failure.reason is Reason.SOURCE_INCOMPLETE

    asyncio.run(scenario())


def test_a_live_job_that_is_ended_as_its_attempt_begins_ends(tmp_path, clip):
    async def scenario():
        loop, request_id, failure = asyncio.get_running_loop(), new_id(), Failure(Reason.TIMEOUT, "Nobody waits.")

        def ends(step):
            if step == "changed to processing" and jobs.live(request_id):
                asyncio.run_coroutine_threadsafe(jobs.scheduler.fail(request_id, failure), loop).result(10)

        async with serving(tmp_path, checkpoint=ends) as jobs:
            await until(jobs, (await submit(jobs, clip("a.mp4", 1))).request_id, ended)
            await jobs.create(replace(SPEC, streamed=True, live=True), "alice", request_id=request_id)
            async with asyncio.timeout(20):
                await asyncio.wait([jobs.live(request_id).task])
                await jobs.scheduler.idle()
            assert jobs.scheduler.executor.live_room == 1 and not jobs.folder(request_id).path.exists()

    asyncio.run(scenario())


class Meeting(LocalExecutor):
    """Executor that accepts an order at the same moment as another event."""

    meets = None

    async def run(self, order):
        await super().run(order)
        if self.meets is not None:
            meets, self.meets = self.meets, None
            await meets()


def test_a_live_job_that_begins_takes_one_slot_of_two(tmp_path, clip):
    async def scenario():
        spec = replace(SPEC, streamed=True, live=True)
        executor = Meeting(ExecutorOptions(workers=1, slots=1, live_slots=2, models="fake:load"))
        async with serving(tmp_path, executor=executor) as jobs:
            await until(jobs, (await submit(jobs, clip("a.mp4", 1))).request_id, ended)  # the worker is ready
            executor.meets = lambda: jobs.create(spec, "bob")
            await jobs.create(spec, "alice")
            assert [job.owner for job in jobs.store.page()] == ["bob", "alice", "alice"]
            with pytest.raises(BusyError):
                await jobs.create(spec, "carol")

    asyncio.run(scenario())


def test_nobody_who_waits_for_a_job_that_is_not_there_is_remembered(tmp_path):
    async def scenario():
        async with serving(tmp_path, workers=0) as jobs:
            for _ in range(10):
                with pytest.raises(NotFoundError):
                    await anext(follow_events(jobs, new_id(), "alice", 0))
            gc.collect()  # an exception keeps its stack frames alive
            assert len(jobs.ledger._next) <= 1  # the last one, whose exception is still referenced

    asyncio.run(scenario())


def test_bytes_that_come_as_their_job_ends_are_told_that_it_has(tmp_path, monkeypatch):
    async def scenario():
        loop, append = asyncio.get_running_loop(), JobFolder.append

        def late(folder, offset, data):
            asyncio.run_coroutine_threadsafe(jobs.cancel(job.request_id, "alice"), loop).result(10)
            append(folder, offset, data)

        async with serving(tmp_path, workers=0) as jobs:
            job, _ = await jobs.create(SPEC, "alice")
            monkeypatch.setattr(JobFolder, "append", late)
            with pytest.raises(TransitionError, match="has ended"):
                await jobs.write(job.request_id, 0, b"x")

    asyncio.run(scenario())
