"""A live source to several destinations: each receives everything at its own pace, and none delays the others."""

import os
import shutil
import socket
import sys
import threading
import time

import av
import media
import psutil
import pytest
import referee
from camera import Camera, recorded
from fake import Nearest
from live_runs import FRAMES, ffmpeg, free_port, packets, run
from live_runs import clip as make_clip

from upres.engine.core.errors import SourceError, TargetError
from upres.engine.decode.live.bridge import Program
from upres.engine.decode.live.network import NetworkOpener
from upres.engine.encode.join.stream import StreamedFile
from upres.engine.encode.options import Encoder
from upres.engine.live import sink
from upres.engine.live.destination import _sent_by_ffmpeg, destination
from upres.engine.live.session import LiveRun, open_live
from upres.engine.pipeline.options import Job
from upres.engine.pipeline.progress import Progress

pytestmark = pytest.mark.referee


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return make_clip(tmp_path_factory.mktemp("live"))


def test_every_kind_of_file_gets_all_of_it(clip, tmp_path):
    places = [tmp_path / name for name in ("out.mp4", "out.mov", "out.mkv", "out.ts", "folder/")]
    running, progress = run(clip, *places[:-1], f"{places[-1]}/")
    assert [each.error for each in running.sinks] == [None] * 5
    assert progress.frames_in == progress.frames_out == FRAMES
    for place in places[:-1]:
        assert packets(place)[0] == FRAMES and packets(place)[1] > 40, place
        assert referee.size(place) == (320, 180)
    playlist = (tmp_path / "folder" / "index.m3u8").read_text()
    assert playlist.count("#EXTINF") >= 1 and playlist.rstrip().endswith("#EXT-X-ENDLIST")
    assert packets(tmp_path / "folder" / "index.m3u8")[0] == FRAMES


def test_a_file_takes_as_long_as_it_lasts(clip, tmp_path):
    start = time.monotonic()
    _, progress = run(clip, tmp_path / "out.ts")
    assert time.monotonic() - start > 0.9  # not faster than real time
    assert progress.seconds["read"] < 0.5  # CPU time, without waiting


def test_a_destination_that_fails_costs_itself_alone(clip, tmp_path):
    running, _ = run(clip, "tcp://127.0.0.1:1", tmp_path / "no" / "out.mp4", tmp_path / "out.mp4")
    refused, missing, fine = (each.error for each in running.sinks)
    assert isinstance(refused, TargetError) and "Connection refused" in str(refused)
    assert isinstance(missing, TargetError) and "No such file" in str(missing)
    assert fine is None and packets(tmp_path / "out.mp4")[0] == FRAMES


@pytest.mark.parametrize(
    "full", ["out.mp4", "out.mov", "out.mkv", "out.ts", "folder/index0.ts.tmp", "folder/index.m3u8.tmp"]
)
def test_a_destination_without_room_is_no_success_and_costs_itself_alone(clip, tmp_path, capfd, full):
    (tmp_path / "folder").mkdir()
    (tmp_path / full).symlink_to("/dev/full")
    place = f"{tmp_path}/folder/" if "/" in full else tmp_path / full
    failed, fine = run(clip, place, tmp_path / "fine.ts")[0].sinks
    assert isinstance(failed.error, TargetError) and "No space left on device" in str(failed.error)
    assert fine.error is None and packets(tmp_path / "fine.ts")[0] == FRAMES
    assert "Traceback" not in capfd.readouterr().err


def test_where_nothing_takes_the_result_it_ends_and_names_every_reason(clip, tmp_path):
    with pytest.raises(
        TargetError, match=r"no destination accepts the result .*tcp://127.0.0.1:1: .*refused.*no/out.mp4: "
    ):
        run(clip, "tcp://127.0.0.1:1", tmp_path / "no" / "out.mp4")


def test_a_fault_of_our_own_costs_one_destination_and_is_logged(clip, tmp_path, monkeypatch, caplog):
    class Faulty(StreamedFile):
        def push(self, fragment):
            if self._container == "mpegts" and fragment.pts:
                raise KeyError("audio7")
            super().push(fragment)

    monkeypatch.setattr(sink, "StreamedFile", Faulty)
    monkeypatch.setattr(sink, "QUEUE_BYTES", 2_000)  # a push would wait for a thread that has ended
    faulty, fine = run(clip, tmp_path / "out.ts", tmp_path / "out.mp4")[0].sinks
    assert isinstance(faulty.error, TargetError)
    assert "writing failed: KeyError: 'audio7'" in str(faulty.error)
    assert fine.error is None and packets(tmp_path / "out.mp4")[0] == FRAMES
    [record] = [each for each in caplog.records if each.name == sink.__name__]
    assert record.exc_info


@pytest.mark.parametrize(
    ("scheme", "options"),
    [
        ("rtmp", ("-listen", "1")),
        ("rtsp", ("-rtsp_flags", "listen", "-listen_timeout", "30")),
        ("tcp", ("-f", "mpegts")),
    ],
)
def test_players_that_listen_get_it(clip, tmp_path, scheme, options):
    port, record = free_port(), tmp_path / "record.mkv"
    address = f"{scheme}://127.0.0.1:{port}/live/x"
    listening = f"{address}?listen=1" if scheme == "tcp" else address
    with ffmpeg(port, *options, "-i", listening, "-c", "copy", record) as receiver:
        run(clip, address)
        receiver.wait(30)
    video, audio = packets(record)
    assert video >= FRAMES - 1 and audio > 40


def program(folder, monkeypatch, text):
    """Install a script with this text as the first ffmpeg on the PATH."""
    path = folder / "ffmpeg"
    path.write_text(f"#!{sys.executable}\n{text}\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)


def test_a_program_that_does_not_come_to_its_end_is_no_success(clip, tmp_path, monkeypatch):
    program(tmp_path, monkeypatch, "import sys, time; sys.stdin.buffer.read(); time.sleep(100)")
    monkeypatch.setattr("upres.engine.live.destination.END_SECONDS", 0.1)
    running, _ = run(clip, "srt://127.0.0.1:1", tmp_path / "out.mp4")
    assert "ffmpeg was still sending 0.1 s after the end" in str(running.sinks[0].error)


def soon_over(monkeypatch, address):
    """Shorten the timeouts for this address, which never accepts anything, but not for others."""
    end = sink.Sink.end

    def ended(self):
        stuck = self.destination.name.startswith(address)
        monkeypatch.setattr(sink, "END_SECONDS", 0.1 if stuck else 600.0)
        end(self)

    monkeypatch.setattr(sink.Sink, "end", ended)


def test_a_program_that_takes_nothing_does_not_outlive_the_run(clip, tmp_path, monkeypatch):
    """Like an ffmpeg that listens without a viewer, with more data than fits into the pipe."""
    before = psutil.Process().children()
    program(tmp_path, monkeypatch, "import time; time.sleep(10_000)")
    soon_over(monkeypatch, "srt:")
    monkeypatch.setattr(sink, "ABANDONED_SECONDS", 600.0)
    encoder = Encoder(codec="h264", crf=0, preset="ultrafast", fragment="frame", live=True, segment_seconds=0.4)
    stuck, fine = run(clip, "srt://127.0.0.1:1?mode=listener", tmp_path / "out.mp4", encoder=encoder)[0].sinks
    assert isinstance(stuck.error, TargetError) and "accepts nothing any more" in str(stuck.error)
    assert psutil.Process().children() == before
    assert fine.error is None and packets(tmp_path / "out.mp4")[0] == FRAMES


def test_a_slow_run_reaches_its_receiver_with_its_first_frames(tmp_path, monkeypatch):
    """Two frames a second: by default, ffmpeg would probe twenty frames before sending one."""
    (tmp_path / "ffmpeg").symlink_to(media.program())
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr("upres.engine.live.destination.LINGER", ())
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        address, container = f"tcp://127.0.0.1:{server.getsockname()[1]}", destination("srt://h:1").container
        head = b"".join(recorded(range(0, 45, 5), container=container))
        with _sent_by_ffmpeg(address, []) as pipe:
            pipe.write(head)
            pipe.flush()
            connection, _ = server.accept()
            connection.settimeout(60)
            assert connection.recv(188)
            taking = threading.Thread(target=lambda: [*iter(lambda: connection.recv(4096), b"")])
            taking.start()
        taking.join()
        connection.close()


def test_ctrl_c_at_a_terminal_does_not_reach_the_programs_that_work_for_us(tmp_path, monkeypatch):
    program(tmp_path, monkeypatch, f"import os, sys; open({str(tmp_path / 'to')!r}, 'w').write(str(os.getpgid(0)))")
    with destination("srt://127.0.0.1:1").opened():
        pass
    program(tmp_path, monkeypatch, "import os; print(os.getpgid(0))")
    source = Program("srt://127.0.0.1:1")
    groups = {int((tmp_path / "to").read_text()), int(source.read(100))}
    source.close()
    assert len(groups) == 2 and os.getpgid(0) not in groups


def test_what_needs_the_program_says_so_where_it_is_not_there(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    for source in ("srt://127.0.0.1:1", "v4l2:///dev/video0"):
        with pytest.raises(SourceError, match=r"needs the ffmpeg program, which is not installed"):
            open_live(source)
    with pytest.raises(TargetError, match=r"^needs the ffmpeg program"), destination("srt://h:1").opened():
        pass


def test_a_source_that_sends_nothing_is_given_up_and_named(monkeypatch):
    monkeypatch.setattr("upres.engine.decode.live.network.WAIT_SECONDS", 0.2)
    address = f"udp://127.0.0.1:{free_port(socket.SOCK_DGRAM)}"
    with pytest.raises(SourceError, match=f"^{address}: cannot be opened .no readable data arrived within 0.2 s"):
        open_live(address)


def test_a_camera_that_is_not_there_is_named_as_the_user_did(tmp_path, monkeypatch):
    (tmp_path / "ffmpeg").symlink_to(media.program())
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(SourceError, match=r"^/dev/video99: cannot be opened"):
        open_live("v4l2:///dev/video99")


def test_a_source_that_breaks_off_is_opened_again_and_time_goes_on(clip, tmp_path, monkeypatch):
    data = clip.read_bytes()
    cut = len(data) // 2 // 188 * 188
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            for piece in (data[:cut], data[cut:]):
                connection, _ = server.accept()
                with connection:
                    connection.sendall(piece)
            server.close()

        threading.Thread(target=serve, daemon=True).start()
        monkeypatch.setattr(NetworkOpener, "reconnect", 2)
        _, progress = run(f"tcp://127.0.0.1:{server.getsockname()[1]}", tmp_path / "out.ts")
    assert progress.frames_out >= FRAMES - 8  # frames that depend on lost ones are missing
    assert progress.repairs.interruptions == 1
    assert "the source ended or broke off, and could not be reopened in 2 attempts" in progress.warnings
    with av.open(str(tmp_path / "out.ts")) as file:
        times = [packet.dts for packet in file.demux(video=0) if packet.size]
    assert times == sorted(set(times)) and len(times) == progress.frames_out


def test_what_was_noted_while_reading_is_reported_after_ctrl_c(tmp_path):
    pieces = [tmp_path / "aac.ts", tmp_path / "mp2.ts"]
    for path, codec in zip(pieces, ("aac", "mp2"), strict=True):
        media.clip(path, "-c:v", "libx264", "-c:a", codec, sound=media.SOUND)
    progress = Progress()

    def tick():
        if progress.repairs.interruptions:
            raise KeyboardInterrupt

    with Camera(*(path.read_bytes() for path in pieces)) as camera:
        running = LiveRun([destination(str(tmp_path / "out.ts"))])
        with open_live(f"tcp://127.0.0.1:{camera.port}") as reader, pytest.raises(KeyboardInterrupt):
            encoder = Encoder(preset="ultrafast", fragment="frame", live=True)
            running.run(reader, Job((Nearest(),), encoder, streamed=True), progress, tick)
    assert any("audio is left out since the source was reopened" in text for text in progress.warnings)


def test_a_slow_address_loses_frames_and_a_file_does_not(monkeypatch, clip, tmp_path):
    """A listener that reads nothing, and a small queue."""
    monkeypatch.setattr(sink, "QUEUE_BYTES", 20_000)
    soon_over(monkeypatch, "tcp:")
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}?send_buffer_size=4096"
        encoder = Encoder(codec="h264", crf=0, preset="ultrafast", fragment="frame", live=True, segment_seconds=0.4)
        running, progress = run(clip, address, tmp_path / "out.mkv", encoder=encoder)
    slow, file = running.sinks
    assert slow.dropped > 0 and isinstance(slow.error, TargetError) and "accepts nothing any more" in str(slow.error)
    assert file.error is None and file.dropped == 0 and packets(tmp_path / "out.mkv")[0] == FRAMES
    assert progress.frames_out == FRAMES


@pytest.mark.parametrize(
    ("name", "container"),
    [
        ("-", "mp4"),
        ("rtmp://h/x", "flv"),
        ("RTSP://h/x", "rtsp"),
        ("udp://h:1", "mpegts"),
        ("a.ts", "mpegts"),
        ("d/", "hls"),
    ],
)
def test_a_name_says_what_it_is(name, container):
    assert destination(name).container == container


@pytest.mark.parametrize("name", ["out.avi", "ftp://h/x", "out"])
def test_a_name_that_says_nothing_is_refused(name):
    with pytest.raises(TargetError, match=r"must end in|goes to"):
        destination(name)
