"""The functions of the Python interface: one clear message for each problem, and no files left behind."""

import errno
import os
import shutil
import signal
import subprocess
import sys
from itertools import chain, repeat
from pathlib import Path

import media
import pytest
import referee
from fake import Nearest, Pipe, job, upscaled
from paths import SUPPORT

from upres.engine.api import stream, upscale
from upres.engine.core.errors import LogError, SourceError, TargetError, UpresError


@pytest.fixture
def clip(clips):
    path = clips / "short.mp4"
    if not path.exists():
        media.clip(path, "-c:v", "libx264", "-c:a", "aac", sound=media.SOUND)
    return path


def fails(kind, words, source, target, **settings):
    """Expect an error of this type with this message, and no change to files."""
    before = referee.resources(), sorted(Path(target).parent.glob("*"))
    with pytest.raises(kind, match=words) as raised:
        upscale(source, target, job(Path(target)), **settings)
    assert referee.resources() <= before[0] and sorted(Path(target).parent.glob("*")) == before[1]
    assert "\n" not in str(raised.value)
    return raised.value


def test_bad_sources_leave_nothing_behind(tmp_path):
    (tmp_path / "text.mp4").write_text("no video " * 500)
    (tmp_path / "empty.mp4").touch()
    fails(SourceError, "not a video", tmp_path / "text.mp4", tmp_path / "out.mp4")
    fails(SourceError, "empty", tmp_path / "empty.mp4", tmp_path / "out.mp4")
    fails(SourceError, "no such file", tmp_path / "none.mp4", tmp_path / "out.mp4")
    fails(SourceError, "before its first byte", Pipe(b""), tmp_path / "out.mp4")
    fails(SourceError, "not a video", Pipe(b"garbage" * 1000), tmp_path / "out.mp4")


def test_every_problem_of_a_target_is_named(clip, tmp_path):
    (tmp_path / "there.mp4").write_text("mine")
    fails(TargetError, "exists already; .overwrite.", clip, tmp_path / "there.mp4")
    assert (tmp_path / "there.mp4").read_text() == "mine"
    task = job(tmp_path / "out.mkv")
    with pytest.raises(TargetError, match=r"requires mp4, the settings require matroska; there is no folder"):
        upscale(clip, tmp_path / "none" / "out.mp4", task)
    (tmp_path / "folder.mp4").mkdir()
    fails(TargetError, "is a folder", clip, tmp_path / "folder.mp4")


def test_overwrite_replaces_only_when_the_result_is_whole(clip, tmp_path):
    target = tmp_path / "out.mp4"
    target.write_text("old")
    (tmp_path / "text.mp4").write_text("no video " * 500)
    fails(SourceError, "not a video", tmp_path / "text.mp4", target, overwrite=True)
    assert target.read_text() == "old"
    upscale(clip, target, job(target), overwrite=True)
    assert len(referee.video(target).times) == 10


def full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_disk_that_fills_while_the_log_grows(clip, tmp_path, monkeypatch):
    monkeypatch.setattr("upres.engine.segments.folder.os.fsync", full)
    fails(TargetError, "the log cannot be written .No space left on device", clip, tmp_path / "out.mp4")


def test_a_disk_that_fills_within_the_first_segment(clip, tmp_path, monkeypatch):
    synced = chain([os.fsync, os.fsync], repeat(full))
    monkeypatch.setattr("upres.engine.segments.folder.os.fsync", lambda file: next(synced)(file))
    error = fails(TargetError, "the log cannot be written .No space left on device", clip, tmp_path / "out.mp4")
    assert error.__notes__ == ["nothing is kept: the first segment (2 seconds of video or more) was not complete yet"]


def test_a_disk_that_fills_while_joining_keeps_what_can_go_on(clip, tmp_path, monkeypatch):
    target = tmp_path / "out.mp4"
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        with pytest.raises(TargetError, match=r"No space left on device") as raised:
            upscaled(clip, target)
    assert any("the same command with `resume` continues from there" in note for note in raised.value.__notes__)
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4.upres"]
    upscale(clip, target, job(target), resume=True)
    assert len(referee.video(target).times) == 10
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount a small disk")
def test_a_disk_that_is_really_full(tmp_path):
    clip = media.clip(
        tmp_path / "in.mp4", "-c:v", "libx264", "-crf", 10, picture="testsrc2=size=320x240:rate=10:duration=3"
    )
    if not shutil.which("mount"):
        pytest.skip("needs mount on the PATH, for a small disk")
    for kilobytes in (16, 64, 160):
        disk = tmp_path / f"disk of {kilobytes}"
        disk.mkdir()
        fill(disk, kilobytes, clip)


def fill(disk, kilobytes, clip):
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting is not allowed here")
    try:
        with pytest.raises(TargetError, match="No space left on device"):
            upscaled(clip, disk / "out.mp4")
        assert {path.name for path in disk.iterdir()} <= {"out.mp4.upres"}
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_an_error_in_the_middle_of_encoding_is_said_once(clip, tmp_path, monkeypatch):
    class Breaks(Nearest):
        def open(self, width, height):
            session = super().open(width, height)
            session.push = self.fail
            return session

        def fail(self, frame):
            raise RuntimeError("the device is gone")

    before = referee.resources()
    with pytest.raises(RuntimeError, match="the device is gone"):
        upscaled(clip, tmp_path / "out.mp4", Breaks())
    assert referee.resources() <= before
    assert list(tmp_path.iterdir()) == []


def test_a_stream_cannot_be_resumed_and_says_so(clip, tmp_path):
    fails(LogError, "a stream cannot be resumed", Pipe(clip.read_bytes()), tmp_path / "out.mp4", resume=True)


@pytest.mark.parametrize("received", [0, 1, 2])
def test_closing_a_stream_leaves_nothing(clip, tmp_path, monkeypatch, received):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = referee.resources()
    fragments = stream(clip, job(Path("out.mp4"), Nearest(lookahead=3)))
    for _ in range(received):
        next(fragments)
    fragments.close()
    assert referee.resources() <= before
    assert list(tmp_path.iterdir()) == []


INTERRUPTED = """
import signal, sys, threading, time; sys.path.insert(0, sys.argv[1])
from pathlib import Path
from fake import Nearest, job
from upres.engine.api import upscale
# Which Python leaves alone where a shell started it in the background.
signal.signal(signal.SIGINT, signal.default_int_handler)
target = Path(sys.argv[3])
try:
    upscale(sys.argv[2], target, job(target), tick=lambda: (print("frame", flush=True), time.sleep(60)))
except KeyboardInterrupt:
    print("stopped", threading.active_count(), flush=True)
"""


def test_ctrl_c_stops_every_thread_and_leaves_no_result(tmp_path):
    clip = media.clip(tmp_path / "in.mp4", "-c:v", "libx264", picture="testsrc2=size=64x48:rate=10:duration=20")
    command = [sys.executable, "-c", INTERRUPTED, str(SUPPORT), str(clip), str(tmp_path / "out.mp4")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        *_, last = process.stdout.read().splitlines()
    assert last == "stopped 1"
    assert not (tmp_path / "out.mp4").exists()


def test_the_error_tree_has_one_root():
    assert all(issubclass(kind, UpresError) for kind in (SourceError, TargetError, LogError))


MEASURED = """
import resource, sys; sys.path.insert(0, sys.argv[1])
from pathlib import Path
from fake import job
from upres.engine.api import upscale
upscale(sys.argv[2], sys.argv[3], job(Path(sys.argv[3])))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.soak
def test_memory_does_not_grow_with_the_clip(tmp_path):
    peaks = []
    for seconds in (30, 300):
        clip = media.clip(
            tmp_path / f"{seconds}.mp4", "-c:v", "libx264", "-preset", "ultrafast", "-c:a", "aac",
            picture=f"testsrc2=size=160x120:rate=25:duration={seconds}", sound=f"sine=duration={seconds}",
        )  # fmt: skip
        command = [
            sys.executable,
            "-c",
            MEASURED,
            str(SUPPORT),
            str(clip),
            str(tmp_path / f"out{seconds}.mp4"),
        ]
        peaks.append(int(subprocess.run(command, capture_output=True, check=True).stdout))
    assert peaks[1] < peaks[0] * 1.05
