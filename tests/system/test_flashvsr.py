"""FlashVSR through the whole product: command line, chain, resume, stream."""

import importlib
import json
import os
import threading
from contextlib import closing
from dataclasses import replace
from fractions import Fraction
from types import SimpleNamespace

import av
import numpy as np
import pytest
import referee
from film import film
from rich.filesize import decimal
from typer.testing import CliRunner

from upres.engine.api import stream, upscale
from upres.engine.core.errors import Interrupted, SettingsError, TargetError
from upres.engine.decode.cut import Cut
from upres.engine.encode.options import Encoder
from upres.engine.models import registry
from upres.engine.models.flashvsr.manifest import folder_of
from upres.engine.models.flashvsr.model import FlashVSR
from upres.engine.models.flashvsr.networks import Transformer
from upres.engine.models.flashvsr.session import FlashVSRSession
from upres.engine.pipeline.options import Job

torch = importlib.import_module("torch") if os.environ.get("CI") else pytest.importorskip("torch")

from small_flashvsr import WEIGHTS  # noqa: E402 - after the check for torch

from upres.export.flashvsr.graphs.settings import Settings  # noqa: E402
from upres.export.flashvsr.graphs.write import write_graphs  # noqa: E402
from upres.service.cli.app import build  # noqa: E402

NETWORK = "flashvsr-v1.1-tiny"


@pytest.fixture
def model(tmp_path, monkeypatch):
    """Install a small FlashVSR with random weights where the product looks for it."""
    monkeypatch.setenv("UPRES_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("UPRES_RANDOM_WEIGHTS", "1")
    settings = Settings(profiles=((128, 128), (256, 256)))
    return write_graphs(WEIGHTS, folder_of(NETWORK), settings)


def upres(*words):
    return CliRunner().invoke(build(), [str(word) for word in words], catch_exceptions=False)


def facts(path):
    with av.open(str(path)) as video:
        frames = [(frame.width, frame.height, frame.time) for frame in video.decode(video=0)]
    return {frame[:2] for frame in frames}, [frame[2] for frame in frames]


@pytest.mark.parametrize("count", [1, 24, 25, 26, 100])
def test_the_command_line_gives_as_many_frames_as_it_takes(model, tmp_path, count):
    source = film(tmp_path / "in.mp4", count)
    result = upres("run", source, tmp_path / "out.mp4", "--model", "FlashVSR_Tiny", "--scale", 2)
    assert result.exit_code == 0, result.output
    sizes, times = facts(tmp_path / "out.mp4")
    assert sizes == {(128, 96)}
    assert times == pytest.approx(facts(source)[1])


def test_a_chain_with_realesrgan(model, tmp_path):
    source = film(tmp_path / "in.mp4", 9, 32, 32)
    chain = "FlashVSR_Tiny,RealESRGAN_Vid_x2"
    assert upres("run", source, tmp_path / "out.mp4", "--chain", chain, "--scale", 2).exit_code == 0
    sizes, times = facts(tmp_path / "out.mp4")
    assert (sizes, len(times)) == ({(128, 128)}, 9)


def test_an_interrupted_run_goes_on_to_the_same_bytes(model, tmp_path):
    source = film(tmp_path / "in.mp4", 60, 32, 32)

    def run(name, **options):
        network, _ = registry.load("FlashVSR_Tiny", scale=2)
        job = Job((network,), Encoder(segment_seconds=0.4))
        return upscale(source, tmp_path / name, job, **options)

    def stop_after(count):
        ticks = iter(range(count))

        def tick():
            if next(ticks, None) is None:
                raise Interrupted("stopped")

        return tick

    run("whole.mp4")
    with pytest.raises(Interrupted):
        run("out.mp4", tick=stop_after(40))
    assert not (tmp_path / "out.mp4").exists()
    progress = run("out.mp4", resume=True)
    assert progress.frames_resumed > 0
    assert (tmp_path / "out.mp4").read_bytes() == (tmp_path / "whole.mp4").read_bytes()


def test_a_cancelled_stream_leaves_nothing_behind(model, tmp_path):
    network, _ = registry.load("FlashVSR_Tiny", scale=2)
    job = Job((network,), Encoder(segment_seconds=0.2))
    with closing(stream(film(tmp_path / "in.mp4", 60, 32, 32), job)) as fragments:
        next(fragments)
    assert not list(tmp_path.glob("*.upres"))


def test_a_stream_that_is_closed_within_a_shot_does_not_wait_for_it(model, tmp_path, monkeypatch):
    steps, blocked, stopped = [], threading.Event(), threading.Event()
    push, stop = Transformer.push, FlashVSRSession.stop

    def slow(self, *inputs):
        steps.append(inputs)
        if len(steps) == 6 + 2:  # the second step of the second shot: there are 3 on each of 2 tiles
            blocked.set()
            assert stopped.wait(60)
        return push(self, *inputs)

    monkeypatch.setattr(Transformer, "push", slow)
    monkeypatch.setattr(FlashVSRSession, "stop", lambda self: (stop(self), stopped.set()))
    write_graphs(WEIGHTS, folder_of(NETWORK), Settings(profiles=((128, 128),)))
    network, _ = registry.load("FlashVSR_Tiny", scale=2)
    job = Job((network,), Encoder(segment_seconds=0.2))
    with closing(stream(film(tmp_path / "in.mp4", 60, 96, 48), job)) as fragments:
        for _ in range(4):  # so that the rest of the first shot can wait for its turn
            next(fragments)
        assert blocked.wait(60)
    assert len(steps) == 6 + 2


def test_a_model_by_name_takes_a_scale(model, tmp_path):
    source = film(tmp_path / "in.mp4", 1)
    upscale(source, tmp_path / "out.mp4", model="FlashVSR_Tiny", scale=3)
    assert facts(tmp_path / "out.mp4")[0] == {(192, 144)}
    with closing(stream(source, model="FlashVSR_Tiny", scale=2)) as fragments:
        track, _, data = next(fragments)
    (tmp_path / "stream.mp4").write_bytes(track.init + data)
    assert facts(tmp_path / "stream.mp4")[0] == {(128, 96)}
    with pytest.raises(SettingsError, match="2 or 3 or 4 times, not 7 times"):
        upscale(source, tmp_path / "no.mp4", model="FlashVSR_Tiny", scale=7)


def test_disk_for_a_shot_is_told_before_the_start_and_has_to_be_there(model, tmp_path, monkeypatch):
    write_graphs(WEIGHTS, folder_of(NETWORK), Settings(profiles=((128, 128),)))
    source = film(tmp_path / "in.mp4", 30, 96, 48)
    words = ["run", source, tmp_path / "out.mp4", "-m", "FlashVSR_Tiny", "--scale", 2]
    needed = registry.load("FlashVSR_Tiny", scale=2)[0].spooled(96, 48, 30)
    result = upres(*words, "--json")
    events = [json.loads(line) for line in result.output.splitlines()]
    (predicted,) = (event for event in events if event["event"] == "predicted")
    assert predicted["spool"] == {str(tmp_path / "cache" / "spool"): needed}
    assert f"{decimal(needed)} per shot in {tmp_path / 'cache' / 'spool'}" in predicted["text"]
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=predicted["disk"] + needed - 1))
    with pytest.raises(
        TargetError, match=r"of disk and .* are free: .* the log, and twice the result, .* for the shot being upscaled"
    ):
        upres(*words, "--overwrite")
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=predicted["disk"] + needed))
    assert upres(*words, "--overwrite").exit_code == 0


def test_a_shot_begins_anew_in_the_session_that_there_is(model, tmp_path):
    source = film(tmp_path / "in.mp4", 60, 64, 48)
    network, _ = registry.load("FlashVSR_Tiny", scale=2)
    opened = []
    network.open = lambda width, height: opened.append((width, height)) or FlashVSR.open(network, width, height)
    job = Job((network,), Encoder(codec="lossless"), container="matroska")
    upscale(source, tmp_path / "both.mkv", job)
    assert opened == [(64, 48)]
    upscale(source, tmp_path / "second.mkv", replace(job, cut=Cut(start=Fraction(30, 25))))
    both, second = (referee.pictures(tmp_path / name) for name in ("both.mkv", "second.mkv"))
    assert len(both) == 60
    np.testing.assert_array_equal(both[30:], second)


def test_models_and_scales_are_told_apart(model, tmp_path):
    listed = upres("models")
    assert f"  {NETWORK:26} photo      here, experimental" in listed.output
    with pytest.raises(SettingsError, match="FlashVSR_Tiny upscales 2 or 3 or 4 times, not 5 times"):
        upres("run", film(tmp_path / "in.mp4", 1), tmp_path / "out.mp4", "-m", "FlashVSR_Tiny", "--scale", 5)


def test_what_takes_very_long_wants_a_yes(model, tmp_path, monkeypatch):
    monkeypatch.setattr(FlashVSR, "seconds", lambda self, width, height: 1000.0)
    words = ["run", film(tmp_path / "in.mp4", 2), tmp_path / "out.mp4", "-m", "FlashVSR_Tiny", "--scale", 2]
    with pytest.raises(SettingsError, match=r"would take about 0\.6 hours on this machine; `yes` starts it"):
        upres(*words)
    assert upres(*words, "--yes").exit_code == 0
