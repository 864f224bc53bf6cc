"""FlashVSR as a job of the service: real worker processes, a real database; frames of one tile and of several."""

import asyncio
import importlib
import os
import socket
from dataclasses import replace
from pathlib import Path

import numpy as np
import processes
import pytest
import referee
from film import film
from rpc_calls import Parts, Sender
from running_jobs import ended, kill_first, removed, result, serving, submit, until
from serving import Rpc, ServerProcess

from upres.engine.api import upscale
from upres.engine.models import registry
from upres.engine.models.flashvsr.manifest import folder_of
from upres.service.domain.spec import Spec
from upres.service.domain.states import Reason, Status
from upres.v2 import upscale_pb2 as pb

torch = importlib.import_module("torch") if os.environ.get("CI") else pytest.importorskip("torch")

from small_flashvsr import WEIGHTS  # noqa: E402 - after the check for torch

from upres.export.flashvsr.graphs.settings import Settings  # noqa: E402
from upres.export.flashvsr.graphs.write import write_graphs  # noqa: E402

pytestmark = pytest.mark.usefixtures("fake_models")
SPEC = Spec("FlashVSR_Tiny", scale=2, segment_seconds=0.4, preset="ultrafast")
OWN, BLOCKABLE = "upres.service.execution.worker:load", "held_flashvsr:load"
STEPS = 3 * 2  # of the transformer in a shot of 30 frames: 6 + 2 + 2 latent frames on each of two tiles


@pytest.fixture(autouse=True)
def model(tmp_path, monkeypatch):
    """Install a small FlashVSR with random weights and 128x128 tiles where the service looks for it."""
    monkeypatch.setenv("UPRES_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("UPRES_RANDOM_WEIGHTS", "1")
    write_graphs(WEIGHTS, folder_of("flashvsr-v1.1-tiny"), Settings(profiles=((128, 128),)))


@pytest.fixture
def wide(tmp_path):
    """Make a clip of 60 frames with a cut in the middle; upscaled frames are two tiles wide."""
    source = film(tmp_path / "in.mp4", 60, 96, 48)
    assert len(registry.load("FlashVSR_Tiny", scale=2)[0].layout(96, 48).tiles) == 2
    return source


class Hold:
    """A listener to which a worker connects when it reaches a step, and which holds it there."""

    def __init__(self, folder, monkeypatch, *, step):
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._listening.settimeout(200)
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
    """Return what the engine alone makes of a source."""
    upscale(source, path, SPEC.job(registry.load("FlashVSR_Tiny", scale=2)[0]))
    return path.read_bytes()


def running(name):
    """Return the only descendant process of this kind."""
    (process,) = processes.below(f"upres-{name}")
    return process


def spooled():
    """List the unnamed files in the spool folder that the worker holds open."""
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
        async with serving(tmp_path, models=BLOCKABLE) as jobs:
            job = await submit(jobs, wide, SPEC)
            connection = await hold.reached()
            assert len(spooled()) == 2  # the shot's frames and latents
            attempt = running("attempt")
            job = await jobs.cancel(job.request_id, "alice")
            assert (job.state.status, job.state.failure.reason) == (Status.ERROR, Reason.CANCELLED)
            await asyncio.to_thread(attempt.wait, 30)
            connection.close()
            following = await submit(jobs, film(tmp_path / "small.mp4", 1), SPEC)
            assert (await until(jobs, following.request_id, ended)).state.status is Status.DONE
            assert hold.steps <= 2 + 1 + 1  # held at the second step; one more, and one of the next job
            async with asyncio.timeout(200):
                while spooled():  # until its turn to be closed
                    await asyncio.sleep(0.01)
            await removed(jobs.folder(job.request_id).source)
            await jobs.delete(job.request_id, "alice")
            assert not jobs.folder(job.request_id).path.exists()

    asyncio.run(scenario())
    assert list((tmp_path / "cache" / "spool").iterdir()) == []


def test_a_worker_that_is_killed_within_a_shot_goes_on_after_the_shot_before(tmp_path, wide, monkeypatch):
    hold = Hold(tmp_path, monkeypatch, step=STEPS + 2)

    async def scenario():
        async with serving(tmp_path, models=BLOCKABLE) as jobs:
            job = await submit(jobs, wide, SPEC)
            with await hold.reached():
                await until(jobs, job.request_id, lambda _: jobs.last_report(job.request_id).get("frames_out", 0) >= 20)
                kill_first(jobs, "worker")
            job = await until(jobs, job.request_id, ended)
            assert (job.state.status, job.state.attempts) == (Status.DONE, 1)
            assert job.totals["frames_resumed"] >= 20
            return (await result(jobs, job.request_id, tmp_path / "out.mp4")).read_bytes()

    assert asyncio.run(scenario()) == by_engine(wide, tmp_path / "engine.mp4")
    assert list((tmp_path / "cache" / "spool").iterdir()) == []


LIVE = pb.UpscaleConfig(model="FlashVSR_Tiny", scale=2, live=True, codec="lossless", segment_seconds=0.4)


def lived(rpc, source):
    """Run a live job on a source of which a quarter is withheld until the first frame is returned; return its responses."""
    data, sender = source.read_bytes(), Sender(pb.UpscaleRequest(config=LIVE))
    sent = 3 * len(data) // 4
    sender.send(data[:sent])
    withheld = True
    for answer in rpc.call(rpc.upscale.Upscale, iter(sender)):
        yield answer
        if withheld and answer.fragment.track == "video":
            withheld = False
            sender.send(data[sent:], sent)
            sender.end()
    assert not withheld


def test_a_live_source_gives_what_a_job_gives_while_it_still_comes_and_nothing_is_spooled(tmp_path):
    source = film(tmp_path / "in.ts", 60, 96, 48)
    parts = Parts()
    with ServerProcess(tmp_path / "server", models=OWN) as server, Rpc(server.ready().target) as rpc:
        for answer in lived(rpc, source):
            parts.take(answer)
    assert answer.job.status == pb.Job.STATUS_DONE and answer.job.totals.frames_out == 60
    assert not (tmp_path / "cache" / "spool").exists()
    live = tmp_path / "live.mp4"
    live.write_bytes(parts.file("video"))
    job = replace(SPEC, codec="lossless").job(registry.load("FlashVSR_Tiny", scale=2)[0])
    upscale(source, tmp_path / "engine.mkv", replace(job, container="matroska"))
    np.testing.assert_array_equal(referee.pictures(live), referee.pictures(tmp_path / "engine.mkv"))
    times = referee.packets(live), referee.packets(source)
    assert np.diff(times[0]) == pytest.approx(np.diff(times[1]), abs=1e-3)


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("slow", "is about 25 times too slow here for a live source of 96x48 at 25 frames a second"),
        ("vast", "needs about 1.2 EB of memory for a live source of 96x48, whose tiles are all kept at once"),
    ],
)
def test_a_live_source_that_cannot_be_kept_up_with_is_refused(tmp_path, kind, why):
    sender = Sender(pb.UpscaleRequest(config=LIVE))
    sender.send(film(tmp_path / "in.ts", 60, 96, 48).read_bytes())
    sender.end()
    with (
        ServerProcess(tmp_path / "server", models=f"held_flashvsr:{kind}") as server,
        Rpc(server.ready().target) as rpc,
    ):
        *_, last = rpc.call(rpc.upscale.Upscale, iter(sender))
    assert (last.job.error.reason, why in last.job.error.message) == ("MODEL_UNAVAILABLE", True), last.job.error
