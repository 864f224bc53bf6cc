"""Jobs whose files are in an object store: even if their server loses its disk, their results have the same bytes."""

import asyncio
import errno
import re
import shutil
import tempfile
import time
from contextlib import aclosing
from types import SimpleNamespace

import pytest
from away_store import Away
from paths import SUPPORT
from running_jobs import SPEC, ended, published, removed, result, serving, submit, until

from upres.engine.segments.model import Fragment
from upres.engine.segments.tail import Tail
from upres.service.domain.errors import DiskFullError, NotFoundError, ResultMissingError, StoreError, UnavailableError
from upres.service.domain.policy import Policy
from upres.service.domain.spec import Limits, Spec
from upres.service.domain.states import Status
from upres.service.jobs import fair_queue, recovery, uploads
from upres.service.jobs.follow import follow
from upres.service.jobs.kept import logs, sources
from upres.service.jobs.service import Jobs
from upres.service.live.piece import Piece
from upres.service.storage.cleanups import Cleanup, JobFiles
from upres.service.storage.job_folder import JobFolder
from upres.service.storage.kept import copies, object_keys
from upres.service.storage.results import Results

pytestmark = pytest.mark.usefixtures("fake_models")

STREAMED = Spec("RealESRGAN_Vid_x2", segment_seconds=0.5, preset="ultrafast", streamed=True)
SECONDS = 12


@pytest.fixture
def kept(tmp_path, monkeypatch):
    monkeypatch.setattr(
        logs, "STOP_SECONDS", 200.0
    )  # even on a slow machine, published data is stored before a server stops
    return Away(tmp_path)


@pytest.fixture(scope="module")
def wanted(clip, tmp_path_factory, request):
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


def take_away(log):
    """Remove a log atomically, as it may be read at any time."""
    log.rename(log.with_name("away"))


async def until_kept(kept, part):
    """Wait until an object whose key contains `part` was written."""
    async with asyncio.timeout(200):
        while not any(part in key for key in kept.seen):
            await asyncio.sleep(0.01)


async def pieces(jobs, request_id):
    """Return all fragments of a log, from its start to the job's end."""
    found = {}
    async with aclosing(follow(jobs, request_id, "alice", {})) as items:
        async for item in items:
            if isinstance(item, Piece):
                cursor = item.fragment.track, *item.fragment.cursor
                assert item.offset == len(found.get(cursor, b""))
                found[cursor] = found.get(cursor, b"") + item.data
    return found


@pytest.mark.parametrize("workers", [1, 2])
def test_a_job_goes_on_from_what_is_in_the_store_where_the_disk_is_lost(tmp_path, clip, kept, wanted, workers):
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
            assert await bytes_of(jobs, job.request_id, tmp_path) == wanted
            generations = object_keys.generations(done.kept["log"])
            assert len(generations) == 2 and generations[0][1] > 0

    asyncio.run(scenario())


def test_what_is_on_the_disk_is_not_brought_again(tmp_path, clip, kept, wanted, monkeypatch):
    async def scenario():
        async with serving(tmp_path, kept=kept) as jobs:
            job = await submit(jobs, clip("a.mp4", SECONDS))
            await until(jobs, job.request_id, published(jobs))
        monkeypatch.setattr(Results, "read", None)  # nothing reads the store
        async with serving(tmp_path, kept=kept) as jobs:
            done = await until(jobs, job.request_id, ended)
            assert done.totals["frames_resumed"] > 0 and len(done.kept["log"]) == 1
        monkeypatch.undo()
        assert await bytes_of(jobs, job.request_id, tmp_path) == wanted

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


@pytest.fixture
def restarts_soon(monkeypatch):
    monkeypatch.setattr(recovery, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(recovery, "LONGEST_PAUSE", 0.01)


def failing(monkeypatch, owner, name, errors):
    """Make a method raise these errors, one per call, before it works normally."""
    method = getattr(owner, name)

    async def first(*args, **kwargs):
        if errors:
            raise errors.pop(0)
        return await method(*args, **kwargs)

    monkeypatch.setattr(owner, name, first)


async def left_whole(folder, kept, source):
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
        job = await left_whole(tmp_path, kept, source)
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
        job = await left_whole(tmp_path, kept, source)
        failing(monkeypatch, sources.KeptSources, "finish", [UnavailableError("away")])
        async with serving(tmp_path, kept=kept) as jobs:
            failed = await jobs.get(job.request_id, "alice")
            assert failed.state.status is Status.ERROR and "unavailable for too long" in failed.state.failure.message

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
    monkeypatch.setattr(fair_queue, "MOST_LOCKED", 1)
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


@pytest.mark.parametrize("lost", [True, False])
def test_a_source_from_before_there_was_a_store_is_used_where_it_is_and_nowhere_else(
    tmp_path, clip, kept, monkeypatch, lost
):
    monkeypatch.setattr(fair_queue, "PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(fair_queue, "MOST_LOCKED", 2)

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
    monkeypatch.setattr(fair_queue, "MOST_LOCKED", 2)

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


def third_of_picture(jobs, request_id):
    """Return the number of the third video fragment of a log; None if there is none yet."""
    news = Tail(jobs.folder(request_id).log).news()
    tracks = [item.track for item in news if isinstance(item, Fragment)]
    return [number for number, track in enumerate(tracks) if track == "video"][2] if tracks.count("video") > 2 else None


@pytest.mark.parametrize("harm", ["changed", "removed"])
def test_a_log_that_is_harmed_in_the_store_is_made_again_from_there(tmp_path, clip, kept, wanted, monkeypatch, harm):
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
            assert await bytes_of(jobs, job.request_id, tmp_path) == wanted

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


def test_what_a_job_has_in_the_store_goes_with_it_and_nothing_else_does(tmp_path, clip, kept):
    async def scenario():
        async with serving(tmp_path, kept=kept) as jobs:
            foreign = tmp_path / "store" / "another" / "key"
            foreign.parent.mkdir(parents=True)
            foreign.touch()
            job = await submit(jobs, clip("a.mp4", 1))
            await until(jobs, job.request_id, ended)
            home = tmp_path / "store" / jobs.store.result_prefix / job.request_id
            await removed(home / "source")
            assert (home / "log").is_dir()
            await jobs.keeper.clear(Cleanup(job.request_id, JobFiles.LOG, "", 0.0))
            take_away(jobs.folder(job.request_id).log)
            with pytest.raises(ResultMissingError):
                await pieces(jobs, job.request_id)
            other = await submit(jobs, clip("a.mp4", SECONDS))
            await jobs.delete(other.request_id, "alice")
            await jobs.delete(job.request_id, "alice")
            await removed(home.with_name(other.request_id))
            assert not home.exists() and foreign.exists()

    asyncio.run(scenario())


def test_a_folder_that_cannot_be_removed_keeps_no_other(tmp_path, kept, monkeypatch, caplog):
    remove, jobs = shutil.rmtree, tmp_path / "jobs"
    names = [f"{number}0000000-0000-4000-8000-000000000000" for number in range(3)]
    monkeypatch.setattr(Jobs, "_keep_tidy", lambda server: asyncio.sleep(600))  # called explicitly below

    def stubborn(path, **kwargs):
        if path.name != f".{names[0]}":
            remove(path, **kwargs)

    async def scenario():
        async with serving(tmp_path, kept=kept) as server:
            for name in (f".{names[0]}", *names):
                (jobs / name / "log").mkdir(parents=True)
            monkeypatch.setattr(shutil, "rmtree", stubborn)
            await server.keeper.tidy(lambda name: False)
            assert {path.name for path in jobs.iterdir()} == {names[0], f".{names[0]}"}
            assert f"{jobs / names[0]} is no longer needed and cannot be removed" in caplog.text
            assert f"{jobs / ('.' + names[0])} is no longer needed, and cannot be removed completely" in caplog.text
            monkeypatch.setattr(shutil, "rmtree", remove)
            await server.keeper.tidy(lambda name: False)
            assert not [*jobs.iterdir()]

    asyncio.run(scenario())


def test_folders_of_jobs_that_ended_long_ago_or_are_unknown_are_removed_and_no_others(
    tmp_path, clip, kept, monkeypatch
):
    async def scenario():
        async with serving(tmp_path, kept=kept) as jobs:
            done = await submit(jobs, clip("a.mp4", 1))
            await until(jobs, done.request_id, ended)
            comes, _ = await jobs.create(SPEC, "alice")
            unknown, other = tmp_path / "jobs" / ("0" * 8 + "-0000-4000-8000-" + "0" * 12), tmp_path / "jobs" / "other"
            for folder in (unknown, other):
                folder.mkdir()
            await jobs.keeper.tidy(lambda name: False)
            assert not unknown.exists()
            assert all(
                folder.exists() for folder in (other, *(jobs.folder(job.request_id).path for job in (done, comes)))
            )
            later = time.time() + 7200
            monkeypatch.setattr(time, "time", lambda: later)
            await jobs.keeper.tidy(lambda name: False)
            assert not jobs.folder(done.request_id).path.exists() and jobs.folder(comes.request_id).path.exists()

    asyncio.run(scenario())
