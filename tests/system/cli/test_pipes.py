"""The command line reads from and writes to pipes."""

import io
import json
import os
import subprocess
import sys

import media
import prepared
import pytest
from PIL import Image


def test_a_frame_goes_into_a_pipe_as_png(tiny):
    command = [sys.executable, "-m", "upres", tiny, "-", "--still", "0.2", "--model", "realesr-live-x2"]
    done = subprocess.run(command, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr
    with Image.open(io.BytesIO(done.stdout)) as image:
        assert (image.format, image.size) == ("PNG", (96, 64))


def test_the_log_and_the_result_do_not_share_stdout(tiny):
    result = prepared.upres(tiny, "-", "--json", "--scale", 4, "--quality", "exact")
    assert result.stdout[:4] == b"\x1aE\xdf\xa3"
    assert [json.loads(line)["event"] for line in result.stderr.splitlines()] == ["predicted", "done"]


def test_an_image_goes_through_pipes(tmp_path):
    picture = media.clip(tmp_path / "in.png", "-frames:v", 1, picture="testsrc2=size=48x32")
    done = prepared.upres(picture, "-", "--scale", 2)
    assert done.returncode == 0 and b"stdout: 96x64" in done.stderr, done.stderr
    assert Image.open(io.BytesIO(done.stdout)).format == "PNG"
    with subprocess.Popen(["cat", picture], stdout=subprocess.PIPE) as pipe:
        done = prepared.upres("-", tmp_path / "out.png", "--scale", 2, stdin=pipe.stdout)
    assert done.returncode == 0 and Image.open(io.BytesIO((tmp_path / "out.png").read_bytes())).size == (96, 64)


def test_images_through_a_pipe_are_not_called_one_image(tmp_path):
    picture = media.clip(tmp_path / "in.png", "-frames:v", 1, picture="testsrc2=size=48x32")
    (tmp_path / "several").write_bytes(2 * picture.read_bytes())
    with subprocess.Popen(["cat", tmp_path / "several"], stdout=subprocess.PIPE) as pipe:
        done = prepared.upres("-", tmp_path / "out.mp4", "--scale", 2, stdin=pipe.stdout)
    assert done.returncode == 0 and b"2 frames in, 2 out" in done.stderr and b"is an image" not in done.stderr, (
        done.stderr
    )


def test_a_pipe_by_its_name_is_refused_with_how_pipes_are_read(upres, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    code, _, err = upres(tmp_path / "pipe", tmp_path / "out.mp4")
    assert code == 3 and "is a pipe, and pipes are read through standard input: cat in.mp4 | upres - out.mp4" in err


@pytest.mark.parametrize(
    ("suffix", "start"), [(".mp4", "192x128, 12 frames, about "), (".ts", "192x128, length unknown, ")]
)
def test_stdin_to_stdout(tiny, suffix, start):
    source = tiny.with_name(f"piped{suffix}")
    media.ffmpeg("-i", tiny, "-c", "copy", source)
    # cat, so that it is a pipe: a file on stdin could be read to and fro
    with subprocess.Popen(["cat", source], stdout=subprocess.PIPE) as pipe:
        result = prepared.upres("-", "-", "--scale", 4, "--quality", "exact", stdin=pipe.stdout)
    assert result.returncode == 0, result.stderr
    assert result.stdout[:4] == b"\x1aE\xdf\xa3"  # EBML: Matroska
    first = next(line for line in result.stderr.decode().splitlines() if not line.startswith("note: "))
    assert first.startswith(f"stdin -> stdout: {start}")
    assert "memory" in first
    assert "disk" in first
