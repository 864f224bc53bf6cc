"""A run that is stopped anywhere resumes to the same bytes."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import media
import pytest
from fake import Nearest, NearestSession, job, repeated
from paths import SUPPORT

from upres.engine.api import upscale
from upres.engine.core.errors import LogError, SettingsError
from upres.engine.encode.options import Encoder
from upres.engine.pipeline.target import log_folder
from upres.engine.segments.folder import FolderLog

SUBTITLES = "".join(f"{n + 1}\n00:00:0{n},200 --> 00:00:0{n},900\nline {n}\n\n" for n in range(2))
SHOTS = (
    "color=navy:size=64x48:rate=5:duration=0.6[a];color=white:size=64x48:rate=5:duration=0.8[b];"
    "color=maroon:size=64x48:rate=5:duration=0.6[c];[a][b][c]concat=n=3"
)


class Stopped(BaseException):
    """As sudden as a signal: no handler catches it by its type."""


@pytest.fixture(scope="module")
def clip(clips) -> Path:
    """Make a clip of two seconds in three shots: AAC to be copied, Vorbis to be encoded as AAC, two subtitle lines, a chapter."""
    (clips / "lines.srt").write_text(SUBTITLES)
    (clips / "chapters.txt").write_text(";FFMETADATA1\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=1000\ntitle=one\n")
    path = clips / "kill.mkv"
    media.ffmpeg(
        "-f", "lavfi", "-i", SHOTS, "-f", "lavfi", "-i", "sine=duration=2", "-i", clips / "lines.srt", "-i", clips / "chapters.txt",
        "-map", 0, "-map", 1, "-map", 1, "-map", 2, "-map_chapters", 3, "-c:v", "libx264", "-c:a:0", "aac", "-c:a:1", "wmav2",
        "-c:s", "srt", path,
    )  # fmt: skip
    return path


def run(monkeypatch, clip, target, model, *, stop_at=None, resume=False, fragment="segment", **settings):
    """Upscale and stop at a checkpoint; return the number of checkpoints passed."""
    passed, lock = [], threading.Lock()

    def checkpoint(step):
        with lock:
            passed.append(step)
            if stop_at is not None and len(passed) >= stop_at:
                raise Stopped(step)

    class Watched(FolderLog):
        def __init__(self, folder, header):
            super().__init__(folder, header, checkpoint)

    monkeypatch.setattr(sys.modules["upres.engine.pipeline.resumable"], "FolderLog", Watched)
    monkeypatch.setattr("os.fsync", lambda file: None)  # slow, and stopping a process does not cut the power
    encoder = Encoder(segment_seconds=0.5, preset="ultrafast", fragment=fragment)
    options = job(target, model, encoder=encoder, **settings)
    upscale(clip, target, options, resume=resume)
    return len(passed)


MODELS = {"stateless": Nearest(), "looks ahead": Nearest(lookahead=3), "remembers": Nearest(lookahead=2, warmup=None)}


def test_stopped_between_subtitles_that_are_converted_none_comes_twice(monkeypatch, clip, tmp_path):
    """MP4 also stores when no subtitle is shown; such packets are not kept."""
    source, whole, target = (tmp_path / name for name in ("in.mp4", "whole.mkv", "out.mkv"))
    media.ffmpeg("-i", clip, "-map", "0:v", "-map", "0:s", "-c", "copy", "-c:s", "mov_text", source)
    points = run(monkeypatch, source, whole, Nearest())
    for point in (points // 2, points - 6, points - 3, points - 1):
        with pytest.raises(Stopped):
            run(monkeypatch, source, target, Nearest(), stop_at=point)
        run(monkeypatch, source, target, Nearest(), resume=True)
        assert target.read_bytes() == whole.read_bytes()
        target.unlink()


@pytest.mark.parametrize("every", [5, pytest.param(1, marks=pytest.mark.soak)])
@pytest.mark.parametrize("name", MODELS)
def test_stopped_at_any_point_it_goes_on_to_the_same_bytes(monkeypatch, clip, tmp_path, name, every):
    model = MODELS[name]
    whole = tmp_path / "whole.mkv"
    points = run(monkeypatch, clip, whole, model)
    assert points > 60
    before = set(threading.enumerate())
    for point in range(1, points + 1, every):
        target = tmp_path / "out.mkv"
        with pytest.raises(Stopped):
            run(monkeypatch, clip, target, model, stop_at=point)
        assert not target.exists()
        assert set(threading.enumerate()) <= before
        run(monkeypatch, clip, target, model, resume=True)
        assert target.read_bytes() == whole.read_bytes(), f"stopped at {point} of {points}"
        assert sorted(path.name for path in tmp_path.iterdir()) == ["out.mkv", "whole.mkv"]
        target.unlink()


def test_stopped_while_segments_are_encoded_at_once_it_goes_on_to_the_bytes_of_one_after_the_other(
    monkeypatch, clip, tmp_path
):
    whole, target = tmp_path / "whole.mkv", tmp_path / "out.mkv"
    points = run(monkeypatch, clip, whole, Nearest())
    before = set(threading.enumerate())
    for point in range(1, points + 1, 5):
        with pytest.raises(Stopped):
            run(monkeypatch, clip, target, Nearest(), stop_at=point, encoders=3)
        assert set(threading.enumerate()) <= before
        run(monkeypatch, clip, target, Nearest(), resume=True, encoders=2)
        assert target.read_bytes() == whole.read_bytes(), f"stopped at {point} of {points}"
        target.unlink()


def published(target):
    """Return the fragments' positions in a log, and their bytes, without leftovers of an interrupted write."""
    folder = log_folder(target)
    records = [
        json.loads(line)
        for line in (folder / "index.jsonl").read_bytes().splitlines(keepends=True)
        if line[-1:] == b"\n"
    ]
    fragments = [record["fragment"] for record in records if record.get("fragment", {}).get("track") == "video"]
    tracks = [record["track"] for record in records if record.get("track", {}).get("name") == "video"]
    size = sum(len(track["init"]) // 2 for track in tracks) + sum(fragment["size"] for fragment in fragments)
    return fragments, (folder / "video.mp4").read_bytes()[:size] if fragments else b""


@pytest.mark.parametrize("every", [11, pytest.param(2, marks=pytest.mark.soak)])
@pytest.mark.parametrize("name", MODELS)
def test_stopped_in_the_middle_of_a_segment_what_was_published_frame_by_frame_stays(
    monkeypatch, clip, tmp_path, name, every
):
    model, whole, target = MODELS[name], tmp_path / "whole.mkv", tmp_path / "out.mkv"
    points = run(monkeypatch, clip, whole, model, fragment="frame")
    with pytest.raises(Stopped):
        run(monkeypatch, clip, target, model, fragment="frame", stop_at=points)
    frames, data = published(target)
    assert [f["number"] for f in frames if f["segment"] == 0] == [0, 1, 2]
    assert [f["independent"] for f in frames] == [f["number"] == 0 for f in frames]
    FolderLog.discard(log_folder(target))
    halves = 0
    for point in range(1, points + 1, every):
        with pytest.raises(Stopped):
            run(monkeypatch, clip, target, model, fragment="frame", stop_at=point)
        if log_folder(target).exists():
            before, bytes_before = published(target)
            halves += bool(before) and not before[-1]["last"]
            assert before == frames[: len(before)] and data.startswith(bytes_before[: sum(f["size"] for f in before)])
            if point < points // 2:
                with pytest.raises(Stopped):
                    run(monkeypatch, clip, target, model, fragment="frame", resume=True, stop_at=points // 4)
                after, _ = published(target)
                assert after[: len(before)] == before and after == frames[: len(after)]
        run(monkeypatch, clip, target, model, fragment="frame", resume=log_folder(target).exists())
        assert target.read_bytes() == whole.read_bytes(), f"stopped at {point} of {points}"
        target.unlink()
    assert halves


def test_what_comes_out_otherwise_than_it_was_published_is_told_and_changes_nothing(monkeypatch, clip, tmp_path):
    target = tmp_path / "out.mkv"
    points = run(monkeypatch, clip, target, Nearest(), fragment="frame")
    target.unlink()
    for point in range(points - 20, 0, -1):
        with pytest.raises(Stopped):
            run(monkeypatch, clip, target, Nearest(), fragment="frame", stop_at=point)
        before = published(target)
        if not before[0][-1]["last"]:  # the last segment is unfinished
            break
        FolderLog.discard(log_folder(target))
    other = lambda self, frame: [replace(frame, pixels=~repeated(frame.pixels, 2))]  # noqa: E731
    monkeypatch.setattr(NearestSession, "push", other)
    with pytest.raises(LogError, match="differs from the published one"):
        run(monkeypatch, clip, target, Nearest(), fragment="frame", resume=True)
    fragments, data = published(target)
    assert fragments == before[0] and before[1].startswith(data)  # bytes that were never recorded are cut off


def test_stopped_again_and_again_it_ends_the_same(monkeypatch, clip, tmp_path):
    run(monkeypatch, clip, tmp_path / "whole.mkv", Nearest())
    target = tmp_path / "out.mkv"
    for point in (40, 20, 30, 25):
        with pytest.raises(Stopped):
            run(monkeypatch, clip, target, Nearest(), stop_at=point, resume=log_folder(target).exists())
    run(monkeypatch, clip, target, Nearest(), resume=True)
    assert target.read_bytes() == (tmp_path / "whole.mkv").read_bytes()


KILLED = """
import sys; sys.path.insert(0, sys.argv[1])
from fake import Nearest, NearestSession, job, repeated
from upres.engine.api import upscale
from upres.engine.encode.options import Encoder
from pathlib import Path
target = Path(sys.argv[3])
encoder = Encoder(segment_seconds=0.5, preset="ultrafast")
upscale(sys.argv[2], target, job(target, encoder=encoder), tick=lambda: print("frame", flush=True))
"""


def test_killed_outright_it_goes_on_to_the_same_bytes(monkeypatch, clip, tmp_path):
    run(monkeypatch, clip, tmp_path / "whole.mkv", Nearest())
    target = tmp_path / "out.mkv"
    command = [sys.executable, "-c", KILLED, str(SUPPORT), str(clip), str(target)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for _ in range(random.randint(2, 9)):
            process.stdout.readline()
        os.kill(process.pid, signal.SIGKILL)
    assert not target.exists()
    run(monkeypatch, clip, target, Nearest(), resume=True)
    assert target.read_bytes() == (tmp_path / "whole.mkv").read_bytes()


def stopped_late(monkeypatch, clip, target):
    points = run(monkeypatch, clip, target, Nearest())
    target.unlink()
    with pytest.raises(Stopped):
        run(monkeypatch, clip, target, Nearest(), stop_at=points - 2)
    return log_folder(target)


def test_a_torn_last_line_and_bytes_behind_the_last_record_are_cut_off(monkeypatch, clip, tmp_path):
    whole, target = tmp_path / "whole.mkv", tmp_path / "out.mkv"
    run(monkeypatch, clip, whole, Nearest())
    folder = stopped_late(monkeypatch, clip, target)
    with (folder / "index.jsonl").open("ab") as index:
        index.write(b'{"fragment": {"track": "vid')
    with (folder / "video.mp4").open("ab") as video:
        video.write(b"half a fragment")
    run(monkeypatch, clip, target, Nearest(), resume=True)
    assert target.read_bytes() == whole.read_bytes()


def test_a_damaged_byte_is_found_and_the_remedy_named(monkeypatch, clip, tmp_path):
    target = tmp_path / "out.mkv"
    folder = stopped_late(monkeypatch, clip, target)
    data = bytearray((folder / "video.mp4").read_bytes())
    data[-100] ^= 1
    (folder / "video.mp4").write_bytes(data)
    with pytest.raises(LogError, match=r"damaged: its checksum.*start again"):
        run(monkeypatch, clip, target, Nearest(), resume=True)


def test_other_settings_or_another_source_cannot_go_on(monkeypatch, clip, tmp_path):
    target = tmp_path / "out.mkv"
    stopped_late(monkeypatch, clip, target)
    with pytest.raises(LogError, match="models was "):
        run(monkeypatch, clip, target, Nearest(name="another"), resume=True)
    other = media.clip(tmp_path / "other.mp4", "-c:v", "libx264")
    with pytest.raises(LogError, match="the source is another file"):
        run(monkeypatch, other, target, Nearest(), resume=True)


def test_a_log_of_a_build_whose_segments_were_others_cannot_go_on(monkeypatch, clip, tmp_path):
    target = tmp_path / "out.mkv"
    older(stopped_late(monkeypatch, clip, target))
    with pytest.raises(LogError, match="was started by another version of upres"):
        run(monkeypatch, clip, target, Nearest(), resume=True)
    assert not target.exists()


def older(folder):
    index = folder / "index.jsonl"
    first, rest = index.read_text().split("\n", 1)
    header = json.loads(first)["header"]
    index.write_text(f"{json.dumps({'header': {**header, 'version': 2}})}\n{rest}")


def test_a_log_that_is_being_written_is_left_alone(monkeypatch, clip, tmp_path):
    target = tmp_path / "out.mkv"
    log = FolderLog(log_folder(target), {})
    with pytest.raises(LogError, match="another upres is writing this log"):
        run(monkeypatch, clip, target, Nearest())
    log.close()


def test_settings_name_everything_that_is_wrong_with_them():
    with pytest.raises(SettingsError, match=r"crf.*preset.*segment.*height"):
        Encoder(crf=99, preset="quick", segment_seconds=0, height=3)
