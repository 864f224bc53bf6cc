"""Jobs with real worker processes, a real database and a fake model."""

import asyncio
import time
from dataclasses import replace

import databases
import processes
import pytest
import referee
from running_jobs import SPEC, ended, kill_first, published, removed, result, serving, submit, until

from upres.engine.core.errors import SourceError
from upres.service.domain.errors import (
    DiskFullError,
    InvalidError,
    NotFoundError,
    OffsetError,
    ResultMissingError,
    StoppingError,
    TooLargeError,
)
from upres.service.domain.policy import Policy
from upres.service.domain.request_id import new_id
from upres.service.domain.spec import Limits, Spec
from upres.service.domain.states import Reason, Status, TransitionError
from upres.service.jobs.follow import Piece, follow
from upres.service.jobs.retention import expire
from upres.service.storage.results import Results

pytestmark = pytest.mark.usefixtures("fake_models")


def test_a_job_ends_with_every_frame_in_its_place(tmp_path, clip):
    async def scenario():
        async with serving(tmp_path) as jobs:
            job = await submit(jobs, clip())
            with pytest.raises(ResultMissingError):
                await jobs.result_key(job.request_id, "alice")
            job = await until(jobs, job.request_id, ended)
            assert job.state.status is Status.DONE, job
            out = await result(jobs, job.request_id, tmp_path / "out.mp4")
            assert referee.size(out) == (128, 96)
            assert referee.packets(out) == pytest.approx(referee.packets(clip()), abs=1e-3)
            assert len(referee.packets(out, "a:0")) == len(referee.packets(clip(), "a:0"))
            kinds = [event.kind for event in jobs.store.events(request_id=job.request_id)]
            assert kinds[:3] == ["created", "accepted", "processing"] and kinds[-1] == "done"
            assert jobs.folder(job.request_id).preview.read_bytes()[:2] == b"\xff\xd8"
            await removed(jobs.folder(job.request_id).source)
            await jobs.delete(job.request_id, "alice")
            assert await jobs.results.keys() == [] and not jobs.folder(job.request_id).path.exists()

    asyncio.run(scenario())


def test_what_is_wrong_is_said_before_a_job_is_accepted(tmp_path, clip):
    async def scenario():
        async with serving(tmp_path, policy=Policy(Limits(1 << 20, {SPEC.model: 30.0}))) as jobs:
            with pytest.raises(InvalidError) as caught:
                await jobs.create(Spec("nothing", crf=99, prefilters=("x",), webhook_secret="short"), "alice")
            assert set(caught.value.problems) == {"model", "crf", "prefilters", "webhook_secret"}
            garbage = tmp_path / "garbage"
            garbage.write_bytes(b"\x00garbage" * 1000)
            with pytest.raises(SourceError):
                await submit(jobs, garbage)
            with pytest.raises(TooLargeError, match="30 seconds"):
                await submit(jobs, clip("long.mp4", 40, "-preset", "ultrafast"))
            job, _ = await jobs.create(SPEC, "alice")
            with pytest.raises(OffsetError, match="expected 0"):
                await jobs.write(job.request_id, 5, b"x")
            with pytest.raises(TooLargeError):
                await jobs.write(job.request_id, 0, bytes(2 << 20))
            with pytest.raises(TransitionError):
                await jobs.write(job.request_id, 0, b"x")
            reasons = [job.state.failure.reason for job in jobs.store.page()]
            assert reasons == [Reason.INPUT_TOO_LARGE, Reason.INPUT_TOO_LARGE, Reason.SOURCE_UNPROCESSABLE]
            jobs.drain()
            with pytest.raises(StoppingError):
                await jobs.create(SPEC, "alice")

    asyncio.run(scenario())


def test_a_streamed_source_gives_segments_before_it_has_ended_and_takes_bytes_twice(tmp_path, clip):
    async def scenario():
        data = clip("a.ts").read_bytes()
        async with serving(tmp_path) as jobs:
            job, _ = await jobs.create(replace(SPEC, streamed=True), "alice")
            have = await jobs.write(job.request_id, 0, data[: len(data) * 3 // 4])
            await until(jobs, job.request_id, published(jobs))
            assert await jobs.write(job.request_id, 10, data[10:have]) == have
            await jobs.write(job.request_id, have, data[have:])
            await jobs.end_source(job.request_id)
            job = await until(jobs, job.request_id, ended)
            assert job.state.status is Status.DONE and job.totals["frames"] == 30

    asyncio.run(scenario())


@pytest.mark.parametrize("victim", ["attempt", "worker"])
def test_an_attempt_that_is_killed_is_made_again_and_ends_the_same(tmp_path, clip, victim):
    async def scenario():
        data = clip("a.ts").read_bytes()
        spec = replace(SPEC, streamed=True)
        async with serving(tmp_path) as jobs:
            outs = []
            for kill in (False, True):
                job, _ = await jobs.create(spec, "alice")
                await jobs.write(job.request_id, 0, data[: len(data) * 3 // 4])
                await until(jobs, job.request_id, published(jobs))
                if kill:
                    kill_first(jobs, victim)
                await jobs.write(job.request_id, len(data) * 3 // 4, data[len(data) * 3 // 4 :])
                await jobs.end_source(job.request_id)
                job = await until(jobs, job.request_id, ended)
                assert job.state.status is Status.DONE, job
                assert job.state.attempts == 1 + kill
                outs.append((await result(jobs, job.request_id, tmp_path / "out.mp4")).read_bytes())
            assert job.totals["frames_resumed"] > 0
            assert outs[0] == outs[1]

    asyncio.run(scenario())


def test_workers_that_die_while_a_job_gets_on_do_not_count_against_it(tmp_path, clip):
    async def scenario():
        data, kills = clip("a.mkv", 6).read_bytes(), 4
        async with serving(tmp_path) as jobs:
            job, _ = await jobs.create(replace(SPEC, streamed=True), "alice")
            reached = 0
            for part in range(kills):
                while reached < len(data) * (part + 2) // (kills + 2):
                    reached += len(piece := data[reached : reached + 4096])
                    await jobs.write(job.request_id, reached - len(piece), piece)
                job = await until(jobs, job.request_id, lambda now, job=job: now.state.progress > job.state.progress)
                kill_first(jobs, "worker")
                await until(jobs, job.request_id, lambda _: not jobs.scheduler.executor.ready)
                job = await until(jobs, job.request_id, lambda _: jobs.scheduler.executor.ready)
            await jobs.write(job.request_id, reached, data[reached:])
            await jobs.end_source(job.request_id)
            job = await until(jobs, job.request_id, ended)
            assert job.state.status is Status.DONE, job
            assert job.totals["frames"] == 60 and job.totals["frames_resumed"] > 0

    asyncio.run(scenario())


def test_an_attempt_killed_in_the_middle_of_a_segment_publishes_no_frame_twice_or_otherwise(tmp_path, clip):
    async def scenario():
        data = clip("a.ts").read_bytes()
        spec = replace(SPEC, streamed=True, delivery="frames")
        async with serving(tmp_path) as jobs:
            read, ends = [], []
            for kill in (False, True):
                job, _ = await jobs.create(spec, "alice")
                await jobs.write(job.request_id, 0, data[: len(data) * 3 // 4])
                pieces = []
                async for item in follow(jobs, job.request_id, "alice", {}):
                    if isinstance(item, Piece) and item.fragment.track == "video":
                        pieces.append(item)
                        if len(pieces) == 13:  # the third of the five frames of the third segment
                            if kill:
                                kill_first(jobs, "attempt")
                            await jobs.write(job.request_id, len(data) * 3 // 4, data[len(data) * 3 // 4 :])
                            await jobs.end_source(job.request_id)
                read.append(pieces)
                ends.append(item)
            assert [end.state.attempts for end in ends] == [1, 2]
            assert [end.totals["frames"] for end in ends] == [30, 30]
            assert read[0] == read[1] and len(read[0]) == 30
            a, b = [(await result(jobs, end.request_id, tmp_path / "out.mp4")).read_bytes() for end in ends]
            assert a == b

    asyncio.run(scenario())


def test_a_job_that_always_kills_its_worker_fails_after_three_attempts(tmp_path, clip, monkeypatch):
    monkeypatch.setenv("FAKE_DIES", str(tmp_path))

    async def scenario():
        async with serving(tmp_path) as jobs:
            job = await submit(jobs, clip())
            job = await until(jobs, job.request_id, ended)
            assert (job.state.attempts, job.state.failure.reason) == (3, Reason.PROCESSING_FAILED)

    asyncio.run(scenario())


def test_a_cancelled_job_stops_and_a_silent_sender_is_not_waited_for(tmp_path, clip):
    async def scenario():
        spec = replace(SPEC, streamed=True)
        async with serving(tmp_path) as jobs:
            job, _ = await jobs.create(spec, "alice")
            job = await jobs.cancel(job.request_id, "alice")
            assert (job.state.status, job.state.failure.reason) == (Status.ERROR, Reason.CANCELLED)
            with pytest.raises(TransitionError):
                await jobs.cancel(job.request_id, "alice")
        async with serving(tmp_path, policy=Policy(Limits(), source_idle_seconds=0.1)) as jobs:
            job, _ = await jobs.create(spec, "alice")
            job = await until(jobs, job.request_id, ended)
            assert job.state.failure.reason is Reason.SOURCE_INCOMPLETE

    asyncio.run(scenario())


def test_a_restart_goes_on_with_what_was_accepted(tmp_path, clip):
    async def scenario():
        async with serving(tmp_path, workers=0) as jobs:
            job = await submit(jobs, clip())
        async with serving(tmp_path) as jobs:
            job = await until(jobs, job.request_id, ended)
            assert job.state.status is Status.DONE

    asyncio.run(scenario())


def test_a_start_removes_nothing_that_its_database_does_not_know(tmp_path, clip):
    """With two servers on one store, a lost state folder or a restored backup, unknown files are not the server's."""
    foreign = [".DS_Store", "notes.mp4", f"{new_id()}.mp4", f"other/{new_id()}.mp4"]

    async def scenario():
        both = Results(str(tmp_path / "results"))
        async with serving(tmp_path, results=both) as jobs:
            job = await until(jobs, (await submit(jobs, clip("a.mp4", 1))).request_id, ended)
        (tmp_path / "results" / "other").mkdir()
        for name in foreign:
            (tmp_path / "results" / name).touch()
        mine = sorted(await both.keys())
        (tmp_path / "second").mkdir()
        async with serving(tmp_path / "second", results=both) as other:
            assert other.store.result_prefix != job.result_prefix
            assert sorted(await both.keys()) == mine
        databases.remove(tmp_path / "jobs.db")
        async with serving(tmp_path, results=both) as jobs:
            with pytest.raises(NotFoundError):
                await jobs.get(job.request_id, "alice")
            assert sorted(await both.keys()) == mine and jobs.folder(job.request_id).log.exists()

    asyncio.run(scenario())


def test_ended_jobs_expire(tmp_path, clip):
    async def scenario():
        async with serving(tmp_path) as jobs:
            job = await submit(jobs, clip("a.mp4", 1))
            await until(jobs, job.request_id, ended)
            assert await expire(jobs, time.time() - 3600) == 0
            assert await expire(jobs, time.time() + 1) == 1
            assert jobs.store.page() == [] and await jobs.results.keys() == []

    asyncio.run(scenario())


def test_two_jobs_on_one_device_outlive_their_worker(tmp_path, clip):
    async def scenario():
        data = clip("a.ts").read_bytes()
        spec = replace(SPEC, streamed=True)
        async with serving(tmp_path) as jobs:
            both = [(await jobs.create(spec, "alice"))[0].request_id for _ in range(2)]
            for request_id in both:
                await jobs.write(request_id, 0, data[: len(data) * 3 // 4])
            for request_id in both:
                await until(jobs, request_id, published(jobs))
            kill_first(jobs, "worker")
            for request_id in both:
                await jobs.write(request_id, len(data) * 3 // 4, data[len(data) * 3 // 4 :])
                await jobs.end_source(request_id)
            for request_id in both:
                job = await until(jobs, request_id, ended)
                assert (job.state.status, job.state.attempts) == (Status.DONE, 2)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "text",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{path}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile '{path}'\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
    ],
)
def test_uploads_that_point_elsewhere_are_refused(tmp_path, clip, text):
    async def scenario():
        path = tmp_path / "playlist"
        path.write_text(text.format(path=clip()))
        async with serving(tmp_path, workers=0) as jobs:
            with pytest.raises(SourceError):
                await submit(jobs, path)

    asyncio.run(scenario())


@pytest.mark.parametrize("step", ["change to processing", "change to done"])
def test_a_database_that_cannot_be_written_for_a_while_holds_a_job_up_and_loses_none(tmp_path, clip, step):
    failing = {step}

    def full(now):
        if now in failing:
            failing.remove(now)
            raise DiskFullError("the disk of the database is full")

    async def scenario():
        async with serving(tmp_path, checkpoint=full) as jobs:
            for _ in range(2):
                job = await submit(jobs, clip())
                assert (await until(jobs, job.request_id, ended)).state.status is Status.DONE
            assert not failing and jobs.ready

    asyncio.run(scenario())


def test_an_order_to_a_worker_that_has_died_meanwhile_is_not_lost(tmp_path, clip):
    async def scenario():
        deaths = 0

        def dies(step):
            nonlocal deaths
            if step == "changed to processing" and not deaths:
                deaths += 1
                [worker] = processes.below("upres-worker")
                worker.kill()
                while executor.ready:
                    time.sleep(0.01)
                worker.wait(10)
                asyncio.run_coroutine_threadsafe(asyncio.sleep(0.2), loop).result(10)

        loop = asyncio.get_running_loop()
        async with serving(tmp_path, checkpoint=dies) as jobs:
            executor = jobs.scheduler.executor
            job = await submit(jobs, clip())
            job = await until(jobs, job.request_id, ended)
            assert (job.state.status, job.state.attempts, deaths) == (Status.DONE, 1, 1)

    asyncio.run(scenario())
