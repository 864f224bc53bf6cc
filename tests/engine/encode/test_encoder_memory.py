"""Predicted memory of an encoder against its actual memory."""

import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest

from upres.engine.core.frame import Color, Shape
from upres.engine.encode.encoder_memory import encoder_memory
from upres.engine.encode.options import Encoder, resolve

SDR = Color("bt709", "tv", "bt709", "bt709")
SHAPE = Shape(1920, 1080, Fraction(1, 25), Fraction(25), Fraction(1), SDR)
# Memory of the encoder itself: all input frames are the same object.
# The peak is read from /proc, because that of getrusage includes the memory of the parent process.
MEASURED = """
import sys
import numpy as np
from test_encoder_memory import SHAPE
from upres.engine.core.frame import Frame
from upres.engine.encode.options import Encoder, resolve
from upres.engine.encode.video import pieces
def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
grey = np.full((SHAPE.height, SHAPE.width, 3), 99, np.uint8)
before = peak()
encoding = resolve(Encoder(codec=sys.argv[1], preset=sys.argv[2], segment_seconds=10), SHAPE)
for _ in pieces((Frame(grey, n, 1) for n in range(70)), encoding, SHAPE, at_shots=False):
    pass
print(1024 * (peak() - before))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads a process's peak memory from /proc")
@pytest.mark.parametrize(("codec", "preset"), [("h264", "fast"), ("hevc", "fast"), ("av1", "fast")])
def test_a_prediction_is_near_what_is_taken(request, codec, preset):
    command = [sys.executable, "-c", MEASURED, codec, preset]
    done = subprocess.run(command, cwd=request.path.parent, capture_output=True, check=True, timeout=280)
    predicted = encoder_memory(resolve(Encoder(codec=codec, preset=preset), SHAPE))
    assert 0.7 < predicted / int(done.stdout) < 1.5


def test_a_short_clip_fills_no_look_ahead():
    encoding = resolve(Encoder(), SHAPE)
    assert encoder_memory(encoding, 3) < encoder_memory(encoding) / 2
    live = resolve(Encoder(fragment="frame", live=True), SHAPE)
    assert encoder_memory(live) < encoder_memory(encoding) / 2
