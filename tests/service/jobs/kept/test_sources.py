"""Sources that are uploaded to an object store while they are received."""

import asyncio
import errno
import re
import shutil

import pytest
from kept_jobs import failing
from running_jobs import SPEC, ended, published, serving, submit, until

from upres.service.domain.errors import DiskFullError, NotFoundError, UnavailableError
from upres.service.domain.spec import Spec
from upres.service.domain.states import Status
from upres.service.jobs import fair_queue
from upres.service.jobs.kept import sources
from upres.service.storage.job_folder import JobFolder

pytestmark = pytest.mark.usefixtures("fake_models")
STREAMED = Spec("RealESRGAN_Vid_x2", segment_seconds=0.5, preset="ultrafast", streamed=True)
SECONDS = 12


async def until_kept(kept, part):
    """Wait until an object whose key contains `part` was written."""
    async with asyncio.timeout(200):
        while not any(part in key for key in kept.seen):
            await asyncio.sleep(0.01)


def test_a_streamed_source_is_acknowledged_once_it_is_in_the_store_and_goes_on_from_there(
    tmp_path, clip, kept, monkeypatch
):
    source = clip("frag.mp4", SECONDS, "-movflags", "frag_keyframe+empty_moov").read_bytes()
    half = len(source) // 2
    monkeypatch.setattr(sources, "GATHER_SECONDS", 0.01)

    async def scenario():
        async with serving(tmp_path, kept=kept) as jobs:
            job, _ = await jobs.create(STREAMED, "alice")
            kept.away = True
            await jobs.write(job.request_id, 0, source[:half])
            assert jobs.source_offset(job) == 0
            kept.away = False
            await until_kept(kept, "/source/")
            assert jobs.source_offset(job) == half
            await until(jobs, job.request_id, published(jobs))
        shutil.rmtree(tmp_path / "jobs")
        async with serving(tmp_path, kept=kept) as jobs:
            assert jobs.source_offset(job) == jobs.folder(job.request_id).source_bytes == half
            await jobs.write(job.request_id, half, source[half:])
            await jobs.end_source(job.request_id)
            done = await until(jobs, job.request_id, ended)
            assert done.state.status is Status.DONE and done.totals["frames"] == 10 * SECONDS
            assert done.kept["source"]["bytes"] == len(source) == done.totals["source_bytes"]

    asyncio.run(scenario())


@pytest.mark.usefixtures("restarts_soon")
def test_a_stream_goes_on_where_it_was_though_the_store_does_not_answer_for_a_while(tmp_path, clip, kept, monkeypatch):
    """Its sender has discarded what was acknowledged."""
    source = clip("frag.mp4", 2, "-movflags", "frag_keyframe+empty_moov").read_bytes()
    half = len(source) // 2
    monkeypatch.setattr(sources, "GATHER_SECONDS", 0.01)

    async def scenario():
        async with serving(tmp_path, kept=kept) as jobs:
            job, _ = await jobs.create(STREAMED, "alice")
            await jobs.write(job.request_id, 0, source[:half])
            await until_kept(kept, "/source/")
        shutil.rmtree(tmp_path / "jobs")
        failing(monkeypatch, kept, "list_objects", [UnavailableError("away")] * 5)
        async with serving(tmp_path, kept=kept) as jobs:
            assert jobs.source_offset(job) == jobs.folder(job.request_id).source_bytes == half
            await jobs.write(job.request_id, half, source[half:])
            await jobs.end_source(job.request_id)
            assert (await until(jobs, job.request_id, ended)).state.status is Status.DONE

    asyncio.run(scenario())


def test_a_job_is_accepted_once_its_source_is_in_the_store(tmp_path, clip, kept, monkeypatch):
    monkeypatch.setattr(sources, "FIRST_PAUSE", 0.01)

    async def scenario():
        async with serving(tmp_path, kept=kept) as jobs:
            kept.away = True
            submitting = asyncio.create_task(submit(jobs, clip("a.mp4", 1)))
            while not (waiting := jobs.store.page()) or not jobs.folder(waiting[0].request_id).is_source_complete:
                await asyncio.sleep(0.01)
            assert not waiting[0].accepted and not submitting.done()
            kept.away = False
            job = await submitting
            assert job.accepted and job.kept["source"]["bytes"] == clip("a.mp4", 1).stat().st_size
            assert (await until(jobs, job.request_id, ended)).state.status is Status.DONE

    asyncio.run(scenario())


def test_a_sender_who_is_far_ahead_of_the_store_is_not_kept_waiting_for_as_long_as_it_is_away(
    tmp_path, kept, monkeypatch
):
    for name, value in {"STALL_SECONDS": 0.0, "GATHER_SECONDS": 0.01, "FIRST_PAUSE": 0.01, "AHEAD": 4}.items():
        monkeypatch.setattr(sources, name, value)

    async def scenario():
        async with serving(tmp_path, kept=kept) as jobs, asyncio.timeout(100):
            job, _ = await jobs.create(SPEC, "alice")
            kept.away = True
            await jobs.write(job.request_id, 0, b"12345")
            await asyncio.sleep(0)  # the upload starts
            with pytest.raises(UnavailableError, match="object store"):
                await jobs.write(job.request_id, 5, b"6")
            kept.away = False
            await until_kept(kept, "/source/")
            assert await jobs.write(job.request_id, 5, b"6") == 6

    asyncio.run(scenario())


@pytest.mark.parametrize("why", ["store", "disk"])
def test_who_submits_all_at_once_is_not_sent_to_a_job_that_is_not_there(tmp_path, clip, kept, monkeypatch, why):
    monkeypatch.setattr(sources, "STALL_SECONDS", 0.0)

    def full(folder):
        raise OSError(errno.ENOSPC, "full")

    if why == "disk":
        monkeypatch.setattr(JobFolder, "end_source", full)

    async def scenario():
        async with serving(tmp_path, kept=kept) as jobs:
            job, _ = await jobs.create(SPEC, "alice")
            kept.away = True
            path = shutil.copy(clip("a.mp4", 1), tmp_path / "upload")
            with pytest.raises((UnavailableError, DiskFullError), match="again later") as raised:
                await jobs.accept_source(job, path)
            assert not re.search("offset|continue", str(raised.value))
            with pytest.raises(NotFoundError):
                await jobs.get(job.request_id, "alice")
            assert not jobs.keeper._sources._copies  # nor does anything wait for its source

    asyncio.run(scenario())


def test_who_begins_to_stream_is_not_sent_to_a_job_that_is_not_there(tmp_path, monkeypatch):
    def full(folder):
        raise OSError(errno.ENOSPC, "full")

    async def scenario():
        async with serving(tmp_path) as jobs:
            monkeypatch.setattr(JobFolder, "make", full)
            with pytest.raises(DiskFullError, match="almost full; try again later"):
                await jobs.create(STREAMED, "alice")
            assert jobs.store.page() == []

    asyncio.run(scenario())


def test_a_sender_hears_that_the_store_is_away_and_may_try_again(tmp_path, clip, kept, monkeypatch):
    monkeypatch.setattr(sources, "STALL_SECONDS", 0.0)
    monkeypatch.setattr(sources, "FIRST_PAUSE", 0.01)

    async def scenario():
        async with serving(tmp_path, kept=kept) as jobs:
            kept.away = True
            job, _ = await jobs.create(SPEC, "alice")
            await jobs.write(job.request_id, 0, clip("a.mp4", 1).read_bytes())
            with pytest.raises(UnavailableError, match="object store"):
                await jobs.end_source(job.request_id)
            kept.away = False
            monkeypatch.setattr(sources, "STALL_SECONDS", 60.0)
            assert (await jobs.end_source(job.request_id)).accepted
            assert (await until(jobs, job.request_id, ended)).state.status is Status.DONE

    asyncio.run(scenario())


@pytest.mark.parametrize("lost", [True, False])
def test_a_source_from_before_there_was_a_store_is_used_where_it_is_and_nowhere_else(
    tmp_path, clip, kept, monkeypatch, lost
):
    monkeypatch.setattr(fair_queue, "PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(fair_queue, "MAX_LOCKED_RETRIES", 2)

    async def scenario():
        async with serving(tmp_path) as jobs:
            job = await submit(jobs, clip("a.mp4", SECONDS))
        if lost:
            shutil.rmtree(tmp_path / "jobs")
        async with serving(tmp_path, kept=kept) as jobs:
            done = await until(jobs, job.request_id, ended)
            assert done.state.status is (Status.ERROR if lost else Status.DONE)
            assert not lost or "unavailable for too long" in done.state.failure.message

    asyncio.run(scenario())


@pytest.mark.parametrize("harm", ["cut", "changed", "removed"])
def test_a_source_that_is_harmed_in_the_store_is_not_used(tmp_path, clip, kept, monkeypatch, harm):
    monkeypatch.setattr(fair_queue, "PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(fair_queue, "LONGEST_PAUSE", 0.001)
    monkeypatch.setattr(fair_queue, "MAX_LOCKED_RETRIES", 2)

    async def scenario():
        async with serving(tmp_path, kept=kept) as jobs:
            job = await submit(jobs, clip("a.mp4", SECONDS))
        shutil.rmtree(tmp_path / "jobs")
        (part,) = (tmp_path / "store" / jobs.store.result_prefix / job.request_id / "source").iterdir()
        data = part.read_bytes()
        part.write_bytes(data[:-1] if harm == "cut" else data[:-1] + bytes([data[-1] ^ 1]))
        if harm == "removed":
            part.unlink()
        async with serving(tmp_path, kept=kept) as jobs:
            done = await until(jobs, job.request_id, ended)
            assert done.state.status is Status.ERROR and "unavailable for too long" in done.state.failure.message

    asyncio.run(scenario())
