"""Third-party live sources: GStreamer's RTSP server as a camera, and ffmpeg publishing over RTMP."""

import os
import subprocess
import threading
import time
from contextlib import suppress

import av
import media
import psutil
import pytest
import rtsp
from fake import Nearest
from paths import SAMPLE
from serving import free_port

from upres.engine.core.errors import SourceError
from upres.engine.decode.live import bridge
from upres.engine.decode.live.network import NetworkOpener
from upres.engine.encode.options import Encoder
from upres.engine.live.destination import destination
from upres.engine.live.session import LiveRun, open_live
from upres.engine.pipeline.options import Job
from upres.engine.pipeline.progress import Progress

pytestmark = pytest.mark.referee
SECONDS = 60
JOB = Job((Nearest(),), Encoder(preset="ultrafast", fragment="frame", live=True, segment_seconds=0.5), streamed=True)


class EnoughError(Exception):
    """Raised by a test in place of Ctrl-C."""


def received(address, target, tick=lambda progress: None):
    """Upscale a source into a file until it ends, or until `tick` raises."""
    progress, running = Progress(), LiveRun([destination(str(target))])
    try:
        with open_live(address) as reader:
            running.run(reader, JOB, progress, lambda: tick(progress))
    except EnoughError:
        pass
    assert running.sinks[0].error is None
    return progress


def tracks(path):
    """Return the times of all packets in a file, in seconds, by track type."""
    with av.open(str(path)) as file:
        times = {stream.type: [] for stream in file.streams}
        for packet in file.demux():
            if packet.size:
                times[packet.stream.type].append(float(packet.pts * packet.time_base))
    return times


def test_a_camera_that_goes_and_comes_back_is_upscaled_over_the_break(tmp_path):
    rtsp.needed()
    with rtsp.rtsp_camera() as camera:
        break_frames = iter((15, 40))
        next_break = next(break_frames)

        def tick(progress):
            nonlocal next_break
            if progress.frames_out < next_break:
                return
            if next_break == 40:
                raise EnoughError
            next_break = next(break_frames)
            camera.off()
            camera.on()

        progress = received(camera.address, tmp_path / "out.mkv", tick)
    assert progress.repairs.interruptions >= 1 and progress.frames_out >= 40
    times = tracks(tmp_path / "out.mkv")
    assert len(times["video"]) == progress.frames_out and len(times["audio"]) > 50
    assert times["video"] == sorted(set(times["video"])) and times["audio"] == sorted(times["audio"])


def test_a_publisher_by_rtmp_that_comes_back_is_upscaled_over_the_break(tmp_path):
    address = f"rtmp://127.0.0.1:{free_port()}/live/x"
    sending = [
        media.program(),
        "-v",
        "quiet",
        "-re",
        "-t",
        "2",
        "-i",
        SAMPLE,
        "-c",
        "copy",
        "-f",
        "flv",
        "-listen",
        "1",
        address,
    ]

    def publish():
        for _ in range(2):
            subprocess.run(
                [*map(str, sending)], timeout=SECONDS, check=False
            )  # the second connection is closed before its end

    def tick(progress):
        if progress.repairs.interruptions and progress.frames_out >= 60:
            raise EnoughError

    publishing = threading.Thread(target=publish, daemon=True)
    publishing.start()
    end = time.monotonic() + SECONDS
    progress = None
    while progress is None:
        with suppress(SourceError):  # it is not listening yet
            progress = received(address, tmp_path / "out.mkv", tick)
        assert time.monotonic() < end
    publishing.join(SECONDS)
    times = tracks(tmp_path / "out.mkv")
    assert progress.repairs.interruptions == 1 and len(times["video"]) == progress.frames_out
    assert times["video"] == sorted(set(times["video"])) and times["audio"] == sorted(times["audio"])


def test_what_ffmpeg_publishes_by_rtmp_is_upscaled_to_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr(NetworkOpener, "reconnect", 0)
    port = free_port()
    address = f"rtmp://127.0.0.1:{port}/live/x"
    sending = [media.program(), "-v", "error", "-re", "-t", "2", "-i", SAMPLE, "-c", "copy", "-f", "flv"]
    with subprocess.Popen([*map(str, sending), "-listen", "1", address]) as publisher:
        end = time.monotonic() + SECONDS
        while not any(each.laddr.port == port for each in psutil.Process(publisher.pid).net_connections()):
            assert publisher.poll() is None and time.monotonic() < end
            time.sleep(0.05)
        progress = received(address, tmp_path / "out.mkv")
    times = tracks(tmp_path / "out.mkv")
    assert len(times["video"]) == progress.frames_out >= 48 and len(times["audio"]) > 80


def test_the_raw_pictures_of_a_camera_are_read(tmp_path, monkeypatch):
    """A file in place of the device: pictures in the format that most cameras have."""
    raw = ("-f", "rawvideo", "-video_size", "64x48", "-pixel_format", "yuyv422", "-framerate", "10")
    monkeypatch.setitem(bridge.FORMATS, "v4l2", raw)
    monkeypatch.setattr(bridge.BridgeOpener, "reconnect", 0)
    (tmp_path / "ffmpeg").symlink_to(media.program())
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    device = tmp_path / "video0"
    device.write_bytes(b"".join(bytes([20 * number, 128]) * (64 * 48) for number in range(10)))
    with open_live(f"v4l2://{device}") as reader:
        frames = list(reader.frames())
        assert (reader.info.pixel_format, reader.info.shape.width, reader.info.shape.height) == ("yuyv422", 64, 48)
    assert [float(frame.pts * frame.time_base) for frame in frames] == [number / 10 for number in range(10)]
    assert [memoryview(frame.planes[0])[0] for frame in frames] == [20 * number for number in range(10)]
