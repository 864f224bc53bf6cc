"""Jobs that wait for an object store that is unavailable, or for disk space."""

import asyncio
import shutil
import tempfile
from types import SimpleNamespace

import pytest
from running_jobs import ended, serving, submit, until

from upres.service.domain.policy import Policy
from upres.service.domain.spec import Limits
from upres.service.domain.states import Status
from upres.service.jobs import fair_queue, uploads
from upres.service.storage.kept import object_keys

pytestmark = pytest.mark.usefixtures("fake_models")
SECONDS = 12


def test_a_job_whose_source_cannot_be_brought_now_waits_and_no_attempt_counts(tmp_path, clip, kept, monkeypatch):
    monkeypatch.setattr(fair_queue, "PAUSE_SECONDS", 0.01)

    async def scenario():
        async with serving(tmp_path, kept=kept) as jobs:
            job = await submit(jobs, clip("a.mp4", SECONDS))
        shutil.rmtree(tmp_path / "jobs")
        kept.away = True
        async with serving(tmp_path, kept=kept) as jobs:
            while not jobs.scheduler.delays._retries[job.request_id]:
                await asyncio.sleep(0.01)
            kept.away = False
            done = await until(jobs, job.request_id, ended)
            assert (done.state.status, done.state.attempts) == (Status.DONE, 1)

    asyncio.run(scenario())


@pytest.mark.parametrize("why", ["store", "disk"])
def test_a_store_that_is_away_or_a_disk_that_is_full_for_long_costs_no_job_its_source(
    tmp_path, clip, kept, monkeypatch, why
):
    monkeypatch.setattr(fair_queue, "PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(fair_queue, "LONGEST_PAUSE", 0.001)
    monkeypatch.setattr(fair_queue, "MAX_LOCKED_RETRIES", 1)
    if why == "disk":
        monkeypatch.setattr(uploads.Intake, "can_hold", lambda intake, size: not kept.away)

    async def scenario():
        async with serving(tmp_path, kept=kept) as jobs:
            job = await submit(jobs, clip("a.mp4", SECONDS))
        shutil.rmtree(tmp_path / "jobs")
        kept.away = True
        async with serving(tmp_path, kept=kept) as jobs:
            async with asyncio.timeout(200):
                while jobs.scheduler.delays._retries[job.request_id] < 4:
                    assert not (await jobs.get(job.request_id, "alice")).state.ended
                    await asyncio.sleep(0.01)
            kept.away = False
            done = await until(jobs, job.request_id, ended)
            assert (done.state.status, done.state.attempts) == (Status.DONE, 1)

    asyncio.run(scenario())


def test_a_job_is_brought_however_little_room_there_is_for_uploads_that_are_spooled(tmp_path, clip, kept, monkeypatch):
    async def scenario():
        async with serving(tmp_path, kept=kept) as jobs:
            job = await submit(jobs, clip("a.mp4", 1))
        shutil.rmtree(tmp_path / "jobs")
        spool, usage = tempfile.gettempdir(), shutil.disk_usage
        full = SimpleNamespace(free=0)
        monkeypatch.setattr(shutil, "disk_usage", lambda path: full if path == spool else usage(path))
        async with serving(tmp_path, kept=kept) as jobs:
            while not (done := await jobs.get(job.request_id, "alice")).state.ended:
                assert not jobs.scheduler.delays._retries[job.request_id]
                await asyncio.sleep(0.01)
            assert done.state.status is Status.DONE

    asyncio.run(scenario())


def test_a_job_is_not_brought_to_a_disk_that_has_no_room_for_it(tmp_path, clip, kept):
    async def scenario():
        async with serving(tmp_path, kept=kept) as jobs:
            job = await submit(jobs, clip("a.mp4", SECONDS))
        shutil.rmtree(tmp_path / "jobs")
        async with serving(tmp_path, kept=kept, policy=Policy(Limits(), free_bytes=1 << 60)) as jobs:
            while not jobs.scheduler.delays._retries[job.request_id]:
                await asyncio.sleep(0.01)
            assert not (await jobs.get(job.request_id, "alice")).state.ended
            assert not jobs.folder(job.request_id).source.exists()

    asyncio.run(scenario())


def test_a_store_that_is_away_holds_up_no_attempt_and_a_job_is_done_once_its_log_is_there(
    tmp_path, clip, kept, monkeypatch
):
    async def scenario():
        async with serving(tmp_path, kept=kept) as jobs:
            job = await submit(jobs, clip("a.mp4", 3))
            kept.away = True
            while not jobs.folder(job.request_id).joined.exists():
                await asyncio.sleep(0.01)
            assert not (await jobs.get(job.request_id, "alice")).state.ended
            kept.away = False
            done = await until(jobs, job.request_id, ended)
            assert done.state.status is Status.DONE
            stored = await kept.list_objects(object_keys.log(jobs.store.result_prefix, job.request_id))
            line = object_keys.log_chain(object_keys.parts(stored), object_keys.generations(done.kept["log"]))
            assert line[-1].end == (jobs.folder(job.request_id).log / "index.jsonl").stat().st_size

    asyncio.run(scenario())
