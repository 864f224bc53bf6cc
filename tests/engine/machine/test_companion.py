"""Helper programs end with this process, even if it is killed."""

import os
import subprocess
import sys
from contextlib import suppress

import psutil
import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
PROGRAM = "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(os.getpid(), flush=True); time.sleep(1000)"
SOURCE = (
    "from upres.engine.decode.live.bridge import Program; kept = Program('srt://h:1'); print(kept.read(9), flush=True)"
)
TARGET = (
    "from upres.engine.live.destination import destination; kept = destination('srt://h:1').opened(); kept.__enter__()"
)


@pytest.mark.parametrize("started", [SOURCE, TARGET])
def test_a_program_that_listens_dies_with_a_process_that_is_killed(tmp_path, monkeypatch, started):
    program = tmp_path / "ffmpeg"
    program.write_text(f"#!{sys.executable}\n{PROGRAM}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    command = [sys.executable, "-c", f"{started}; import time; time.sleep(1000)"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        companion = psutil.Process(int(process.stdout.readline().strip("b'\\n\n")))
        process.kill()
    try:
        companion.wait(120)
    finally:
        with suppress(psutil.NoSuchProcess):
            companion.kill()
