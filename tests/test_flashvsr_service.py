"""FlashVSR as a job of the service: real worker processes, a real database; frames of one tile and of several."""

import asyncio
import importlib
import os
import socket
from pathlib import Path

import psutil
import pytest
import referee
from test_flashvsr_command import film
from test_jobs import ended, kill_first, result, serving, submit, until
from upres.engine import select
from upres.engine.flashvsr_manifest import folder_of
from upres.engine.upscale import upscale
from upres.service.spec import Spec
from upres.service.states import Reason, Status

torch = importlib.import_module("torch") if os.environ.get("CI") else pytest.importorskip("torch")

from small_flashvsr import WEIGHTS  # noqa: E402 - after the check for torch
from upres.export.flashvsr_onnx import Settings, write_graphs  # noqa: E402

pytestmark = pytest.mark.usefixtures("fake_models")
SPEC = Spec("FlashVSR_Tiny", scale=2, segment_seconds=0.4, preset="ultrafast")
OWN, HELD = "upres.service.worker:load", "held_flashvsr:load"
STEPS = 3 * 2  # of the transformer in a shot of 30 frames: 6 + 2 + 2 latent frames on each of two tiles


@pytest.fixture(autouse=True)
def model(tmp_path, monkeypatch):
    """A small FlashVSR with random weights where the service looks for one; its tile is 128x128."""
    monkeypatch.setenv("UPRES_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("UPRES_RANDOM_WEIGHTS", "1")
    write_graphs(WEIGHTS, folder_of("flashvsr-v1.1-tiny"), Settings(profiles=((128, 128),)))


@pytest.fixture
def wide(tmp_path):
    """60 frames with a cut in their middle, two tiles wide when they are twice as large."""
    source = film(tmp_path / "in.mp4", 60, 96, 48)
    assert len(select.load("FlashVSR_Tiny", scale=2)[0].layout(96, 48).tiles) == 2
    return source


class Hold:
    """Where a worker reports that it has come to a step, and waits."""

    def __init__(self, folder, monkeypatch, *, step):
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._listening.settimeout(60)
        self._steps = folder / "steps"
        monkeypatch.setenv("HELD", str(folder))
        monkeypatch.setenv("HELD_AT", str(step))
        monkeypatch.setenv("HELD_PORT", str(self._listening.getsockname()[1]))

    @property
    def steps(self):
        return len(self._steps.read_text().splitlines())

    async def reached(self):
        with self._listening:
            return (await asyncio.to_thread(self._listening.accept))[0]


def by_engine(source, path):
    """What the engine itself makes of a source."""
    upscale(source, path, SPEC.job(select.load("FlashVSR_Tiny", scale=2)[0]))
    return path.read_bytes()


def running(name):
    """The one process of this kind below this one."""
    processes = psutil.Process().children(recursive=True)
    (found,) = (process for process in processes if f"upres.service.{name}" in process.cmdline())
    return found


def spooled():
    """The files in the spool folder that the worker holds; they have no names there."""
    worker = running("worker")
    links = (link.readlink() for link in Path(f"/proc/{worker.pid}/fd").iterdir())
    return {link.name for link in links if link.parent.name == "spool"}


def test_a_job_ends_with_every_frame_in_its_place(tmp_path):
    source = film(tmp_path / "in.mp4", 30)

    async def scenario():
        async with serving(tmp_path, models=OWN) as jobs:
            job = await until(jobs, (await submit(jobs, source, SPEC)).request_id, ended)
            assert job.state.status is Status.DONE, job
            return await result(jobs, job.request_id, tmp_path / "out.mp4")

    out = asyncio.run(scenario())
    assert referee.size(out) == (128, 96)
    assert referee.packets(out) == pytest.approx(referee.packets(source), abs=1e-3)


def test_frames_larger_than_a_tile_give_what_the_engine_gives(tmp_path, wide):
    async def scenario():
        async with serving(tmp_path, models=OWN) as jobs:
            job = await until(jobs, (await submit(jobs, wide, SPEC)).request_id, ended)
            assert job.state.status is Status.DONE, job
            assert job.totals["frames"] == 60
            return await result(jobs, job.request_id, tmp_path / "out.mp4")

    out = asyncio.run(scenario())
    assert referee.size(out) == (192, 96)
    assert out.read_bytes() == by_engine(wide, tmp_path / "engine.mp4")


def test_a_job_that_is_cancelled_within_a_shot_frees_the_device_and_leaves_nothing(tmp_path, wide, monkeypatch):
    hold = Hold(tmp_path, monkeypatch, step=2)

    async def scenario():
        async with serving(tmp_path, models=HELD) as jobs:
            job = await submit(jobs, wide, SPEC)
            connection = await hold.reached()
            assert len(spooled()) == 2  # the frames and the latents of the shot
            attempt = running("attempt")
            job = await jobs.cancel(job.request_id, "alice")
            assert (job.state.status, job.state.failure.reason) == (Status.ERROR, Reason.CANCELLED)
            await asyncio.to_thread(attempt.wait, 30)
            connection.close()
            following = await submit(jobs, film(tmp_path / "small.mp4", 1), SPEC)
            assert (await until(jobs, following.request_id, ended)).state.status is Status.DONE
            assert hold.steps <= 2 + 1 + 1  # it was held at the second; one more, and that of the next job
            assert spooled() == set()
            assert not jobs.folder(job.request_id).source.exists()
            await jobs.delete(job.request_id, "alice")
            assert not jobs.folder(job.request_id).path.exists()

    asyncio.run(scenario())
    assert list((tmp_path / "cache" / "spool").iterdir()) == []


def test_a_worker_that_is_killed_within_a_shot_goes_on_after_the_shot_before(tmp_path, wide, monkeypatch):
    hold = Hold(tmp_path, monkeypatch, step=STEPS + 2)

    async def scenario():
        async with serving(tmp_path, models=HELD) as jobs:
            job = await submit(jobs, wide, SPEC)
            with await hold.reached():
                await until(jobs, job.request_id, lambda _: jobs.news(job.request_id).get("frames_out", 0) >= 20)
                kill_first(jobs, "worker")
            job = await until(jobs, job.request_id, ended)
            assert (job.state.status, job.state.attempts) == (Status.DONE, 2)
            assert job.totals["frames_resumed"] >= 20
            return (await result(jobs, job.request_id, tmp_path / "out.mp4")).read_bytes()

    assert asyncio.run(scenario()) == by_engine(wide, tmp_path / "engine.mp4")
    assert list((tmp_path / "cache" / "spool").iterdir()) == []
