"""SRT through the system's ffmpeg program, because PyAV's FFmpeg does not support it."""

import shutil
import socket
import subprocess

import media
import pytest
from live_runs import FRAMES, ffmpeg, free_port, packets, run
from live_runs import clip as make_clip
from paths import SAMPLE

from upres.engine.core.errors import TargetError

pytestmark = pytest.mark.referee
SRT = shutil.which("ffmpeg")
if SRT is None or "srt" not in subprocess.run([SRT, "-protocols"], capture_output=True, text=True).stdout:
    pytest.skip("there is no ffmpeg with SRT on the PATH", allow_module_level=True)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return make_clip(tmp_path_factory.mktemp("srt"))


def test_srt_is_sent_and_received_by_way_of_ffmpeg(clip, tmp_path):
    port, record = free_port(socket.SOCK_DGRAM), tmp_path / "record.ts"
    address = f"srt://127.0.0.1:{port}"
    with ffmpeg(port, "-i", f"{address}?mode=listener", "-c", "copy", record, program=SRT) as receiver:
        run(clip, address)
        receiver.wait(30)
    assert packets(record)[0] >= FRAMES - 10  # SRT drops late packets, and those at the end
    port = free_port(socket.SOCK_DGRAM)
    address = f"srt://127.0.0.1:{port}"
    sending = ("-re", "-i", SAMPLE, "-c", "copy", "-f", "mpegts", f"{address}?mode=listener")
    with ffmpeg(port, *sending, program=SRT), pytest.MonkeyPatch.context() as patch:
        patch.setattr("upres.engine.decode.live.bridge.BridgeOpener.reconnect", 0)
        _, progress = run(address, tmp_path / "out.mp4")
    assert 0 < progress.frames_out == packets(tmp_path / "out.mp4")[0]


def test_srt_that_nobody_takes_is_no_success(clip, tmp_path):
    running, _ = run(clip, f"srt://127.0.0.1:{free_port(socket.SOCK_DGRAM)}", tmp_path / "out.mp4")
    refused, fine = (each.error for each in running.sinks)
    assert isinstance(refused, TargetError) and fine is None
    assert "ffmpeg could not send it" in str(refused) and "Input/output error" in str(refused)
    assert "check that a receiver listens there" in str(refused)


def test_srt_whose_receiver_dies_is_no_success(tmp_path):
    address = f"srt://127.0.0.1:{free_port(socket.SOCK_DGRAM)}"
    recorded = [SRT, "-v", "error", "-t", "1", "-i", f"{address}?mode=listener", "-c", "copy", "-f", "null", "-"]
    with subprocess.Popen(recorded) as process:
        try:
            long = media.clip(tmp_path / "in.ts", picture="testsrc2=size=64x48:rate=10:duration=8")
            running, _ = run(long, address, tmp_path / "out.mp4")
        finally:
            process.kill()
    assert isinstance(running.sinks[0].error, TargetError) and running.sinks[1].error is None
    assert "ffmpeg" in str(running.sinks[0].error)
