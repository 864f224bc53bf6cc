"""Slots and queue places are shared fairly, attempts are counted fairly, and the scheduler recovers from errors."""

import asyncio
import threading
from dataclasses import replace

import pytest
import referee
from running_jobs import SPEC, ended, published, result, serving, submit, until

from upres.service.domain.errors import BusyError, ConflictError
from upres.service.domain.policy import Policy
from upres.service.domain.request_id import new_id
from upres.service.domain.spec import Limits
from upres.service.domain.states import Reason, Status
from upres.service.execution.base import ExecutorOptions
from upres.service.execution.local import LocalExecutor

pytestmark = pytest.mark.usefixtures("fake_models")
STREAMED = replace(SPEC, streamed=True)
PATIENT = Policy(Limits(), source_idle_seconds=3600)  # even on a slow machine, a pausing sender does not time out
ROOM_FOR_ONE = 250 << 20  # bytes, according to the predicted memory of an attempt at these clips


def test_senders_that_pause_give_their_slots_to_jobs_that_wait_and_resume(tmp_path, clip):
    """Two streams hold both slots and stall; another owner's job ends first, then both streams, with every frame."""

    async def scenario():
        data = clip("a.ts").read_bytes()
        half = len(data) * 3 // 4
        async with serving(tmp_path, policy=PATIENT) as jobs:
            streams = [(await jobs.create(STREAMED, "alice"))[0].request_id for _ in range(2)]
            for request_id in streams:
                await jobs.write(request_id, 0, data[:half])
            for request_id in streams:
                await until(jobs, request_id, published(jobs))
            other = await submit(jobs, clip("a.mp4", 1))
            assert (await until(jobs, other.request_id, ended)).state.status is Status.DONE
            for request_id in streams:
                await jobs.write(request_id, half, data[half:])
                await jobs.end_source(request_id)
            for number, request_id in enumerate(streams):
                job = await until(jobs, request_id, ended)
                assert (job.state.status, job.state.attempts) == (Status.DONE, 1), job
                out = await result(jobs, request_id, tmp_path / f"{number}.mp4")
                assert referee.count(out) == referee.count(clip("a.ts"))

    asyncio.run(scenario())


def test_an_owner_who_holds_every_slot_gives_one_to_another(tmp_path, clip):
    """Both slots are busy with alice's long jobs; bob's short one does not wait for their end."""

    async def scenario():
        long = clip("long.mp4", 400, "-preset", "ultrafast")
        async with serving(tmp_path) as jobs:
            spec = replace(SPEC, split=True)
            both = [await submit(jobs, long, spec) for _ in range(2)]
            for job in both:
                await until(jobs, job.request_id, published(jobs))
            job, _ = await jobs.create(SPEC, "bob")
            await jobs.write(job.request_id, 0, clip("a.mp4", 1).read_bytes())
            await jobs.end_source(job.request_id)
            async with asyncio.timeout(60):
                while not (state := (await jobs.get(job.request_id, "bob")).state).ended:
                    await asyncio.sleep(0.05)
            assert state.status is Status.DONE
            states = [(await jobs.get(job.request_id, "alice")).state for job in both]
            assert not any(state.ended for state in states) and max(state.attempts for state in states) == 1

    asyncio.run(scenario())


def test_a_sender_that_pauses_gives_its_memory_to_an_attempt_that_waits_for_it(tmp_path, clip):
    """Four slots, and memory for one attempt, which alice's stream holds; it stalls until bob's job is done."""

    async def scenario():
        data = clip("a.ts").read_bytes()
        part = len(data) * 3 // 4
        executor = LocalExecutor(ExecutorOptions(workers=1, slots=4, models="fake:load", memory_bytes=ROOM_FOR_ONE))
        async with serving(tmp_path, executor=executor, policy=PATIENT) as jobs:
            stream = (await jobs.create(STREAMED, "alice"))[0].request_id
            await jobs.write(stream, 0, data[:part])
            await until(jobs, stream, published(jobs))
            job, _ = await jobs.create(SPEC, "bob")
            await jobs.write(job.request_id, 0, clip("a.mp4", 1).read_bytes())
            await jobs.end_source(job.request_id)
            async with asyncio.timeout(200):
                while not (state := (await jobs.get(job.request_id, "bob")).state).ended:
                    await asyncio.sleep(0.05)
            assert state.status is Status.DONE
            await jobs.write(stream, part, data[part:])
            await jobs.end_source(stream)
            state = (await until(jobs, stream, ended)).state
            assert (state.status, state.attempts) == (Status.DONE, 1)
            assert referee.count(await result(jobs, stream, tmp_path / "out.mp4")) == referee.count(clip("a.ts"))

    asyncio.run(scenario())


def test_a_sender_that_pauses_keeps_memory_that_nobody_waits_for_on_its_device(tmp_path, clip):
    """Two devices, each with memory for one attempt, which alice's streams hold; the one on bob's device yields it."""

    async def scenario():
        data = clip("a.ts").read_bytes()
        part = len(data) * 3 // 4
        executor = LocalExecutor(ExecutorOptions(workers=2, slots=4, models="fake:load", memory_bytes=2 * ROOM_FOR_ONE))
        async with serving(tmp_path, executor=executor, policy=PATIENT) as jobs:
            while not all(device.ready for device in executor.devices):
                await asyncio.sleep(0.05)
            streams = []
            for _ in range(2):
                streams.append((await jobs.create(STREAMED, "alice"))[0].request_id)
                await jobs.write(streams[-1], 0, data[:part])
                await until(jobs, streams[-1], published(jobs))
            beside, apart = streams
            await jobs.write(beside, part, data[part : part + 1])  # the other one has stalled for longer
            kept = jobs.scheduler.attempts[apart]
            job, _ = await jobs.create(STREAMED, "bob")
            await jobs.write(job.request_id, 0, data)
            await jobs.end_source(job.request_id)
            async with asyncio.timeout(100):
                while not (state := (await jobs.get(job.request_id, "bob")).state).ended:
                    await asyncio.sleep(0.05)
            assert state.status is Status.DONE
            assert jobs.scheduler.attempts.get(apart) is kept and beside not in jobs.scheduler.attempts

    asyncio.run(scenario())


def test_a_queue_holds_as_many_as_it_may_however_many_call_at_once(tmp_path):
    async def scenario():
        async with serving(tmp_path, policy=Policy(Limits(), queue=20), workers=0) as jobs:
            calls = [jobs.create(SPEC, f"key-{number % 7}") for number in range(500)]
            done = await asyncio.gather(*calls, return_exceptions=True)
            assert sum(isinstance(one, BusyError) for one in done) == 480
            created = jobs.store.page()
            assert len(created) == 20
            with pytest.raises(BusyError):  # uploads that are not accepted yet hold a reservation
                await jobs.create(SPEC, "alice")
            await jobs.delete(created[0].request_id, created[0].owner)
            job, _ = await jobs.create(SPEC, "alice")
            with pytest.raises(BusyError):
                await jobs.create(SPEC, "alice")
            await jobs.delete(job.request_id, "alice")
            with pytest.raises(ConflictError):  # a rejected request holds none
                await jobs.create(SPEC, "alice", request_id=created[1].request_id)
            await jobs.create(SPEC, "alice")

    asyncio.run(scenario())


class Dying(Exception):
    """Stands in for the death of the process."""


async def crash(folder, clip, request_id):
    """Crash a server while an attempt at the job runs."""
    executor = LocalExecutor(ExecutorOptions(workers=1, slots=2, models="fake:load"))
    with pytest.raises(Dying):
        async with serving(folder, executor=executor, policy=PATIENT) as jobs:
            if request_id is None:
                request_id = (await jobs.create(STREAMED, "alice"))[0].request_id
                data = clip("a.ts").read_bytes()
                await jobs.write(request_id, 0, data[: len(data) * 3 // 4])
            await until(jobs, request_id, lambda job: request_id in jobs.scheduler.attempts)
            jobs.scheduler.attempts.clear()  # a clean stop would requeue the attempts
            raise Dying
    return request_id


def test_a_job_that_ends_the_server_at_every_attempt_is_given_up(tmp_path, clip):
    async def scenario():
        request_id = None
        for _ in range(3):
            request_id = await crash(tmp_path, clip, request_id)
        async with serving(tmp_path, policy=PATIENT) as jobs:
            state = (await jobs.get(request_id, "alice")).state
            assert (state.status, state.failure.reason) == (Status.ERROR, Reason.PROCESSING_FAILED)
            assert state.attempts == 3 and "server ended unexpectedly" in state.failure.message

    asyncio.run(scenario())


def test_clean_stops_cost_no_attempt(tmp_path, clip):
    async def scenario():
        data, request_id = clip("a.ts").read_bytes(), new_id()
        for _ in range(4):
            async with serving(tmp_path, policy=PATIENT) as jobs:
                if not jobs.store.page():
                    await jobs.create(STREAMED, "alice", request_id=request_id)
                    await jobs.write(request_id, 0, data[: len(data) * 3 // 4])
                await until(jobs, request_id, lambda job: request_id in jobs.scheduler.attempts)
                await until(jobs, request_id, published(jobs))
        async with serving(tmp_path, policy=PATIENT) as jobs:
            await jobs.write(request_id, len(data) * 3 // 4, data[len(data) * 3 // 4 :])
            await jobs.end_source(request_id)
            job = await until(jobs, request_id, ended)
            assert (job.state.status, job.state.attempts) == (Status.DONE, 1)

    asyncio.run(scenario())


def test_a_clean_stop_takes_back_an_attempt_that_is_being_noted(tmp_path, clip):
    noted, stopping = threading.Event(), threading.Event()

    def checkpoint(step):
        if step == "changed to processing" and not noted.is_set():
            noted.set()
            assert stopping.wait(200)

    async def scenario():
        async with serving(tmp_path, checkpoint=checkpoint) as jobs:
            job = await submit(jobs, clip("a.mp4", 1))
            await asyncio.to_thread(noted.wait, 200)
            stop = jobs._tasks.stop

            async def stop_meanwhile():
                stopped = asyncio.create_task(stop())
                for _ in range(20):  # until every task has been cancelled
                    await asyncio.sleep(0)
                stopping.set()
                await stopped

            jobs._tasks.stop = stop_meanwhile
        async with serving(tmp_path, workers=0) as jobs:
            assert (await jobs.get(job.request_id, "alice")).state.attempts == 0

    asyncio.run(scenario())


class Stumbling(LocalExecutor):
    """An executor that fails at its first order."""

    failed = False

    async def run(self, order):
        if not self.failed:
            self.failed = True
            raise OSError("no process can be started now")
        await super().run(order)


def test_an_order_that_the_executor_does_not_take_is_given_again(tmp_path, clip):
    async def scenario():
        executor = Stumbling(ExecutorOptions(workers=1, slots=2, models="fake:load"))
        async with serving(tmp_path, executor=executor) as jobs:
            for attempts in (2, 1):
                job = await until(jobs, (await submit(jobs, clip("a.mp4", 1))).request_id, ended)
                assert (job.state.status, job.state.attempts) == (Status.DONE, attempts)

    asyncio.run(scenario())
