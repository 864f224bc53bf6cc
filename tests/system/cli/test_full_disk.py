"""A disk that fills up during a command: the message, what is kept, and that it resumes to the same bytes."""

import subprocess
import sys

import media
import pytest

from upres.engine.core.errors import NO_SPACE, TargetError, os_errors_as

LIMITED = """
import resource, sys
limit = int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
from upres.service.cli.main import main
main()
"""
"""Runs `upres` with a file size limit, which the system reports on a write as it reports a full disk."""


def upres(cwd, *arguments, limit=-1):
    command = [sys.executable, "-c", LIMITED, str(limit), *arguments]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=240)
    return done.returncode, done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="needs limits of a process")
def test_a_command_whose_log_cannot_grow_keeps_what_is_there_and_resumes_to_the_same_bytes(tmp_path):
    media.clip(tmp_path / "in.mp4", picture="testsrc2=size=64x48:rate=25:duration=0.6", sound="sine=duration=0.6")
    once = ["in.mp4", "out.mp4", "--model", "realesr-live-x2", "--segment", "0.1"]
    assert upres(tmp_path, *once)[0] == 0
    whole = (tmp_path / "out.mp4").read_bytes()
    (tmp_path / "out.mp4").unlink()

    code, text = upres(tmp_path, *once, limit=len(whole) // 2)
    assert code == 5
    assert "out.mp4.upres: the log cannot be written (File too large)" in text
    assert "segments in out.mp4.upres; the same command with --resume continues from there" in text
    assert {path.name for path in tmp_path.iterdir()} == {"in.mp4", "out.mp4.upres"}

    code, text = upres(tmp_path, *once, "--resume")
    assert (code, "from the interrupted run" in text) == (0, True)
    assert (tmp_path / "out.mp4").read_bytes() == whole
    assert {path.name for path in tmp_path.iterdir()} == {"in.mp4", "out.mp4"}


@pytest.mark.parametrize("number", NO_SPACE)
def test_of_a_full_disk_it_is_said_what_to_do(number):
    with (
        pytest.raises(TargetError, match=r"out: cannot be used \(full; make room there\)"),
        os_errors_as("out", TargetError),
    ):
        raise OSError(number, "full")
