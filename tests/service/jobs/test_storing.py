"""Storing results in a store that is slow, unavailable or broken, also of jobs that end meanwhile."""

import asyncio
from dataclasses import replace

import databases
import pytest
import referee
from running_jobs import SPEC, ended, result, serving, submit, until

from upres.engine.core.errors import TargetError
from upres.service.domain.states import Reason, Status
from upres.service.storage.job_store import Store
from upres.service.storage.results import Results

pytestmark = pytest.mark.usefixtures("fake_models")


class BlockingStore(Results):
    """Result store whose writes wait until `turns` gets None, or an error to raise."""

    def __init__(self, folder):
        super().__init__(str(folder / "results"))
        self.begun, self.turns, self._way = asyncio.Event(), asyncio.Queue(), folder / "way"

    async def put(self, key, path):
        self._way.write_bytes(path.read_bytes())
        self.begun.set()
        if (error := await self.turns.get()) is not None:
            raise error
        return await super().put(key, self._way)


@pytest.mark.parametrize("delete", [False, True], ids=["cancelled", "deleted"])
def test_a_job_that_is_ended_while_its_result_is_stored_leaves_none(tmp_path, clip, delete):
    async def scenario():
        results = BlockingStore(tmp_path)
        async with serving(tmp_path, results=results) as jobs:
            job = await submit(jobs, clip("a.mp4", 1))
            await results.begun.wait()
            await (jobs.delete if delete else jobs.cancel)(job.request_id, "alice")
            for _ in range(2):
                results.turns.put_nowait(None)
            await jobs.scheduler.idle()
            assert await results.keys() == []

    asyncio.run(scenario())


def test_a_result_that_cannot_be_stored_in_an_unknown_way_costs_an_attempt_and_not_the_worker(tmp_path, clip):
    async def scenario():
        results = BlockingStore(tmp_path)
        for turn in (RuntimeError("a fault of ours"), None, None, None, None):
            results.turns.put_nowait(turn)
        async with serving(tmp_path, results=results) as jobs:
            for attempts in (2, 1):
                job = await submit(jobs, clip("a.mp4", 1))
                job = await until(jobs, job.request_id, ended)
                assert (job.state.status, job.state.attempts) == (Status.DONE, attempts)

    asyncio.run(scenario())


class UnavailableStore(Results):
    """Result store that is unavailable for the first `times` writes."""

    def __init__(self, folder, times):
        super().__init__(str(folder / "results"))
        self.failures, self.requested = times, asyncio.Event()

    async def put(self, key, path):
        if self.failures:
            self.failures -= 1
            self.requested.set()
            raise TargetError("the result cannot be stored (Away)")
        return await super().put(key, path)


def test_a_result_waits_for_a_store_that_is_away(tmp_path, clip, monkeypatch):
    monkeypatch.setattr("upres.service.storage.results.STORE_SECONDS", 0)

    async def scenario():
        async with serving(tmp_path, results=UnavailableStore(tmp_path, 5)) as jobs:
            job = await until(jobs, (await submit(jobs, clip("a.mp4", 1))).request_id, ended)
            assert (job.state.status, job.state.attempts) == (Status.DONE, 1)
            assert referee.count(await result(jobs, job.request_id, tmp_path / "out.mp4")) == 10

    asyncio.run(scenario())


def test_a_job_that_waits_for_its_store_can_be_cancelled(tmp_path, clip, monkeypatch):
    monkeypatch.setattr("upres.service.storage.results.STORE_SECONDS", 0.01)

    async def scenario():
        results = UnavailableStore(tmp_path, -1)
        async with serving(tmp_path, results=results) as jobs:
            job = await submit(jobs, clip("a.mp4", 1))
            await results.requested.wait()
            job = await jobs.cancel(job.request_id, "alice")
            assert (job.state.status, job.state.failure.reason) == (Status.ERROR, Reason.CANCELLED)
            await jobs.scheduler.idle()
            assert not jobs.folder(job.request_id).joined.exists()

    asyncio.run(scenario())


def test_a_store_that_is_slow_for_one_job_holds_up_no_other(tmp_path, clip):
    async def scenario():
        results = BlockingStore(tmp_path)
        async with serving(tmp_path, results=results) as jobs:
            slow = await submit(jobs, clip("a.mp4", 1))
            await results.begun.wait()
            other = await submit(jobs, clip("long.mp4", 40, "-preset", "ultrafast"), replace(SPEC, split=True))
            other = await until(jobs, other.request_id, lambda job: job.state.progress > 0)
            await jobs.cancel(other.request_id, "alice")
            for _ in range(2):
                results.turns.put_nowait(None)
            assert (await until(jobs, slow.request_id, ended)).state.status is Status.DONE

    asyncio.run(scenario())


def test_a_job_is_forgotten_although_its_result_cannot_be_removed(tmp_path, clip):
    async def scenario():
        async with serving(tmp_path) as jobs:
            job = await submit(jobs, clip("a.mp4", 1))
            await until(jobs, job.request_id, ended)
            folder = tmp_path / "results" / jobs.store.result_prefix
            stuck = folder / f"{job.request_id}.mp4"
            stuck.unlink()
            (stuck / "x").mkdir(parents=True)
            await jobs.delete(job.request_id, "alice")
            assert jobs.store.page() == [] and not jobs.folder(job.request_id).path.exists()
            assert not (folder / f"{job.request_id}.jpg").exists()
            (stuck / "x").rmdir()
            stuck.rmdir()
            stuck.touch()
        later = Store(databases.url(tmp_path / "jobs.db"))
        for cleanup in later.cleanups.due(float("inf")):
            later.cleanups.postpone(cleanup, 0.0)
        later.close()
        async with serving(tmp_path) as jobs:
            async with asyncio.timeout(20):
                while jobs.store.cleanups.due(float("inf")):
                    await asyncio.sleep(0.01)
            assert not stuck.exists()

    asyncio.run(scenario())
