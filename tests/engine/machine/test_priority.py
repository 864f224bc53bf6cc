"""Encoder threads never have real-time priority, even if run by root."""

import os
import subprocess
import sys

import pytest
from paths import SUPPORT

ENCODES = """
import os, sys
from contextlib import suppress
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import fake
from upres.engine.encode.options import Encoder
policies = set()

def look():
    for task in Path("/proc/self/task").iterdir():
        with suppress(ProcessLookupError):  # the thread has ended in the meantime
            policies.add(os.sched_getscheduler(int(task.name)))

from upres.engine.api import upscale
target = Path(sys.argv[3])
upscale(sys.argv[2], target, fake.job(target, encoder=Encoder(codec=sys.argv[4], preset="ultrafast")), tick=look)
os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)) if not os.getuid() else None  # the permission is restored
print(policies == {os.SCHED_OTHER})
"""


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="only root may have real-time priority")
@pytest.mark.parametrize("codec", ["h264", "hevc", "av1", "vp9"])
def test_no_encoder_takes_real_time_priority(clip, tmp_path, codec):
    command = [sys.executable, "-c", ENCODES, SUPPORT, clip(seconds=1), tmp_path / "out.mp4", codec]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.stdout == "True\n", done.stdout + done.stderr
