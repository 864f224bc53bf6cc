"""Jobs whose files are in an object store: even if their server loses its disk, their results have the same bytes."""

import asyncio
import shutil

import pytest
from kept_jobs import failing, pieces, take_away
from paths import SUPPORT
from running_jobs import ended, published, result, serving, submit, until

from upres.engine.segments.model import Fragment
from upres.engine.segments.tail import Tail
from upres.service.domain.errors import StoreError, UnavailableError
from upres.service.domain.spec import Spec
from upres.service.domain.states import Status
from upres.service.jobs import recovery
from upres.service.jobs.kept import sources
from upres.service.storage.kept import copies, object_keys
from upres.service.storage.results import Results

pytestmark = pytest.mark.usefixtures("fake_models")
STREAMED = Spec("RealESRGAN_Vid_x2", segment_seconds=0.5, preset="ultrafast", streamed=True)
SECONDS = 12


@pytest.fixture(scope="module")
def undisturbed(clip, tmp_path_factory, request):
    """Return the bytes of an undisturbed job's result and of its log."""
    monkeypatch = pytest.MonkeyPatch()
    request.addfinalizer(monkeypatch.undo)
    monkeypatch.setenv("PYTHONPATH", str(SUPPORT))
    folder = tmp_path_factory.mktemp("undisturbed")

    async def scenario():
        async with serving(folder) as jobs:
            job = await submit(jobs, clip("a.mp4", SECONDS))
            await until(jobs, job.request_id, ended)
            return await bytes_of(jobs, job.request_id, folder)

    return asyncio.run(scenario())


async def bytes_of(jobs, request_id, folder):
    return (await result(jobs, request_id, folder / "out.mp4")).read_bytes()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_job_goes_on_from_what_is_in_the_store_where_the_disk_is_lost(tmp_path, clip, kept, undisturbed, workers):
    """With several devices this includes the ranges, whose merged output is stored."""

    async def scenario():
        async with serving(tmp_path, kept=kept, workers=workers) as jobs:
            job = await submit(jobs, clip("a.mp4", SECONDS))
            await until(jobs, job.request_id, published(jobs))
        shutil.rmtree(tmp_path / "jobs")
        async with serving(tmp_path, kept=kept, workers=workers) as jobs:
            done = await until(jobs, job.request_id, ended)
            assert (done.state.status, done.state.attempts) == (Status.DONE, 1)
            assert done.totals["frames_resumed"] > 0
            assert await bytes_of(jobs, job.request_id, tmp_path) == undisturbed
            generations = object_keys.generations(done.kept["log"])
            assert len(generations) == 2 and generations[0][1] > 0

    asyncio.run(scenario())


def test_what_is_on_the_disk_is_not_brought_again(tmp_path, clip, kept, undisturbed, monkeypatch):
    async def scenario():
        async with serving(tmp_path, kept=kept) as jobs:
            job = await submit(jobs, clip("a.mp4", SECONDS))
            await until(jobs, job.request_id, published(jobs))
        monkeypatch.setattr(Results, "read", None)  # nothing reads the store
        async with serving(tmp_path, kept=kept) as jobs:
            done = await until(jobs, job.request_id, ended)
            assert done.totals["frames_resumed"] > 0 and len(done.kept["log"]) == 1
        monkeypatch.undo()
        assert await bytes_of(jobs, job.request_id, tmp_path) == undisturbed

    asyncio.run(scenario())


def test_a_log_is_read_from_the_store_as_from_its_folder(tmp_path, clip, kept):
    async def scenario():
        async with serving(tmp_path, kept=kept) as jobs:
            job = await submit(jobs, clip("a.mp4", 3))
            here = await pieces(jobs, job.request_id)
            take_away(jobs.folder(job.request_id).log)
            assert len(here) > 6 and await pieces(jobs, job.request_id) == here

    asyncio.run(scenario())


def test_who_reads_along_reads_on_in_the_store_where_the_log_goes_on_at_another_server(tmp_path, clip, kept):
    """The job was taken over from the reading server, whose folder has the first fragments and no longer grows."""

    async def scenario():
        async with serving(tmp_path, kept=kept) as jobs:
            job = await submit(jobs, clip("a.mp4", 3))
            whole = await pieces(jobs, job.request_id)
            job = await jobs.get(job.request_id, "alice")
            log = jobs.keeper.log(job.request_id)
            (jobs.folder(job.request_id).log / "generation").write_text("0" * 16)
            assert await pieces(jobs, job.request_id) == whole
            in_store = [item async for item in log.news(job) if isinstance(item, Fragment)]
            assert [(item.track, *item.cursor) for item in in_store] == [*whole]
            (jobs.folder(job.request_id).log / "generation").write_text(job.kept["log"][-1][0])
            assert [item async for item in log.news(job)] == []  # nothing twice

    asyncio.run(scenario())


async def complete_source_of(folder, kept, source):
    """Stop a server when the source of a streamed job is complete, but its row does not say so."""
    async with serving(folder, kept=kept) as jobs:
        job, _ = await jobs.create(STREAMED, "alice")
        await jobs.write(job.request_id, 0, source.read_bytes())
        jobs.folder(job.request_id).end_source()
    return job


@pytest.mark.usefixtures("restarts_soon")
def test_a_job_whose_source_was_whole_is_resumed_whatever_fails_meanwhile(tmp_path, clip, kept, monkeypatch):
    source = clip("frag.mp4", 2, "-movflags", "frag_keyframe+empty_moov")

    async def scenario():
        job = await complete_source_of(tmp_path, kept, source)
        errors = [UnavailableError("away"), StoreError("away"), ValueError("whatever")]
        failing(monkeypatch, sources.KeptSources, "finish", errors)
        async with serving(tmp_path, kept=kept) as jobs:
            done = await until(jobs, job.request_id, lambda job: job.state.ended or job.state.attempts > 1)
            assert not errors and done.state.status is Status.DONE
            assert done.kept["source"]["bytes"] == source.stat().st_size

    asyncio.run(scenario())


@pytest.mark.usefixtures("restarts_soon")
def test_a_job_that_cannot_be_resumed_for_long_fails(tmp_path, clip, kept, monkeypatch):
    source = clip("frag.mp4", 2, "-movflags", "frag_keyframe+empty_moov")
    monkeypatch.setattr(recovery, "DOWNLOAD_SECONDS", 0.0)

    async def scenario():
        job = await complete_source_of(tmp_path, kept, source)
        failing(monkeypatch, sources.KeptSources, "finish", [UnavailableError("away")])
        async with serving(tmp_path, kept=kept) as jobs:
            failed = await jobs.get(job.request_id, "alice")
            assert failed.state.status is Status.ERROR and "unavailable for too long" in failed.state.failure.message

    asyncio.run(scenario())


def third_of_picture(jobs, request_id):
    """Return the number of the third video fragment of a log; None if there is none yet."""
    news = Tail(jobs.folder(request_id).log).news()
    tracks = [item.track for item in news if isinstance(item, Fragment)]
    return [number for number, track in enumerate(tracks) if track == "video"][2] if tracks.count("video") > 2 else None


@pytest.mark.parametrize("harm", ["changed", "removed"])
def test_a_log_that_is_harmed_in_the_store_is_made_again_from_there(
    tmp_path, clip, kept, undisturbed, monkeypatch, harm
):
    monkeypatch.setattr(copies, "PART", 1)  # one object per fragment

    async def scenario():
        async with serving(tmp_path, kept=kept) as jobs:
            job = await submit(jobs, clip("a.mp4", SECONDS))
            while (harmed := third_of_picture(jobs, job.request_id)) is None:
                await asyncio.sleep(0.01)
        shutil.rmtree(tmp_path / "jobs")
        path = tmp_path / "store" / sorted(key for key in kept.seen if "/log/" in key)[harmed]
        if harm == "changed":
            path.write_bytes(path.read_bytes()[:-1] + b"?")
        else:
            path.unlink()
        async with serving(tmp_path, kept=kept) as jobs:
            done = await until(jobs, job.request_id, ended)
            assert done.totals["frames_resumed"] == 10  # two segments
            assert await bytes_of(jobs, job.request_id, tmp_path) == undisturbed

    asyncio.run(scenario())
