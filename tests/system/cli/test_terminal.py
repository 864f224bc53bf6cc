"""The command line on a terminal: its output, its refusals, and Ctrl-C."""

import os
import pty
import signal
import subprocess
import sys
from contextlib import suppress

import media
import pytest
from paths import SAMPLE

from upres.engine.pipeline.target import log_folder

UPRES = [sys.executable, "-c", "from upres.service.cli.main import main; main()"]


@pytest.mark.parametrize(("args", "code"), [((SAMPLE, "-"), 5), (("-", "out.mp4"), 3), (("probe", "-"), 3)])
def test_a_terminal_gives_no_video_and_is_given_none(args, code):
    controller, terminal = pty.openpty()
    result = subprocess.run(
        [*UPRES, *args], stdin=terminal, stdout=terminal, stderr=subprocess.PIPE, text=True, timeout=120
    )
    os.close(terminal)
    os.close(controller)
    assert result.returncode == code
    assert "is a terminal" in result.stderr
    assert "upres" in result.stderr.partition("is a terminal")[2]


def test_a_note_stands_on_a_line_of_its_own_above_the_bar(tmp_path):
    media.clip(tmp_path / "[red]odd.mp4", "-c:v", "libx264", picture="testsrc2=size=32x20:rate=5:duration=1")
    controller, terminal = pty.openpty()
    command = [*UPRES, "[red]odd.mp4", "out.mp4", "--model", "RealESRGAN_Vid_x2", "--height", "39"]
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80"}
    with subprocess.Popen(command, stderr=terminal, env=environment, cwd=tmp_path) as running:
        os.close(terminal)
        shown = b""
        with suppress(OSError):  # the other end of the terminal is closed
            while data := os.read(controller, 1 << 16):
                shown += data
    os.close(controller)
    assert running.returncode == 0, shown
    before, _, after = shown.decode().partition("note: 62x39 has an odd side, so it is encoded as 4:4:4")
    assert before.endswith("\r\x1b[2K")  # the bar is erased first
    assert "\r\n" in after.partition("\x1b")[0]  # and redrawn below
    assert "[red]odd.mp4 " in after


STOPPED_WHILE_IMPORTING = """
import os, signal, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "MODULE":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder())
from upres.service.cli.main import main
main()
"""


@pytest.mark.parametrize(
    "module", ["typer", "numpy", "av", "upres.engine.api", "upres.service.cli.run.batch", "openvino"]
)
def test_ctrl_c_while_everything_is_still_imported_ends_without_a_traceback(tmp_path, module):
    code = STOPPED_WHILE_IMPORTING.replace("MODULE", module)
    command = [sys.executable, "-c", code, SAMPLE, tmp_path / "out.mp4"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (result.returncode, result.stderr) == (130, "upres: interrupted\n")


def test_interrupted_before_a_segment_is_whole_it_says_that_nothing_is_kept(tmp_path):
    command = [*UPRES, SAMPLE, tmp_path / "out.mp4"]
    running = subprocess.Popen([*command, "--segment", "60"], stderr=subprocess.PIPE, text=True)
    while not (log_folder(tmp_path / "out.mp4") / "index.jsonl").exists():
        with suppress(subprocess.TimeoutExpired):
            pytest.fail(f"it ended before it could be interrupted: {running.wait(0.1)}")
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=60)
    assert running.returncode == 130
    *_, interrupted, kept = err.splitlines()
    assert interrupted == "upres: interrupted" and kept.startswith("  nothing is kept: ")
    assert list(tmp_path.iterdir()) == []
