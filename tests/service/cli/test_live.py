"""`upres live` as it is typed: a small clip at its own pace, with the network that ships."""

import subprocess
import sys

import av
import media
import pytest
from paths import SAMPLE


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("cli") / "in.mp4"
    media.ffmpeg("-i", SAMPLE, "-t", "1", "-vf", "scale=32:24", "-c:v", "libx264", "-c:a", "aac", path)
    return path


def live(*words, **options):
    command = [sys.executable, "-c", "from upres.service.cli.main import main; main()", "live", *map(str, words)]
    return subprocess.run(command, capture_output=True, timeout=120, **options)


def test_a_clip_goes_to_two_places_and_one_that_fails_is_named(clip, tmp_path):
    done = live(clip, "--scale", "2", "--every-frame", "--to", tmp_path / "out.mkv", "--to", "tcp://127.0.0.1:1")
    said = done.stderr.decode()
    assert done.returncode == 0, said
    assert "25 frames\n" in said and f"{tmp_path / 'out.mkv'}: complete\n" in said
    assert "tcp://127.0.0.1:1: the result: cannot be written (Connection refused)" in said
    with av.open(str(tmp_path / "out.mkv")) as file:
        assert len(list(file.decode(video=0))) == 25 and file.streams.video[0].width == 64


def test_the_result_goes_to_stdout_unless_it_is_said_otherwise(clip, tmp_path):
    with clip.open("rb") as source:
        done = live("-", "--scale", "2", stdin=source)
    assert done.returncode == 0, done.stderr
    (tmp_path / "out.mp4").write_bytes(done.stdout)
    with av.open(str(tmp_path / "out.mp4")) as file:
        assert file.streams.video[0].width == 64 and next(file.decode(video=0))


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("missing.mp4",), 3, "missing.mp4: no such file"),
        (("a.mp4", "--to", "out.avi"), 5, "out.avi: the name must end in"),
        (("ftp://h/x", "--to", "out.mkv"), 3, "there is no opener for ftp"),
        (("rtsp://127.0.0.1:1/x", "--to", "out.mkv"), 3, "Connection refused"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(tmp_path, words, code, message):
    done = live(*words, cwd=tmp_path)
    assert done.returncode == code
    assert message in done.stderr.decode() and b"Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
