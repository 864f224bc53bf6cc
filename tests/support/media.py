"""Clips made by the tests, with the system's ffmpeg."""

import os
import shutil
import subprocess
from fractions import Fraction
from functools import cache
from pathlib import Path

import pytest

PICTURE = "testsrc2=size=64x48:rate=10:duration=1"
SMOOTH = "gradients=size=64x48:rate=10:duration=1:seed=1"
SOUND = "sine=frequency=440:sample_rate=44100:duration=1"


@cache
def need_ffmpeg() -> None:
    """Skip where there is no ffmpeg, fail where it has to be there."""
    if shutil.which("ffmpeg") and shutil.which("ffprobe"):
        return
    message = "these tests need ffmpeg and ffprobe on the PATH"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


def ffmpeg(*args: object) -> bytes:
    """Run ffmpeg; give what it wrote to its standard output."""
    need_ffmpeg()
    command = ["ffmpeg", "-v", "error", "-y", "-nostdin", *map(str, args)]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def clip(path: Path, *args: object, picture: str | None = PICTURE, sound: str | None = None) -> Path:
    """A clip of a drawn picture and a tone, encoded as the arguments say."""
    inputs: list[object] = []
    for source in (picture, sound):
        inputs += ["-f", "lavfi", "-i", source] if source else []
    ffmpeg(*inputs, *args, path)
    return path


def timed(path: Path, ticks: list[int], time_base: Fraction, *args: object, last: int | None = None) -> Path:
    """A clip whose frames have these times. args: how to encode. last: ticks of the last frame, which rules B-frames out."""
    times = "+".join(f"eq(N,{n})*{tick}" for n, tick in enumerate(ticks))
    picture = f"testsrc2=size=64x48:rate=10:duration={len(ticks) / 10},settb={time_base},setpts='{times}'"
    end = ("-bf", 0, "-bsf:v", f"setts=duration={last}") if last else ()
    scale = ("-video_track_timescale", time_base.denominator) if path.suffix in (".mp4", ".mov") else ()
    return clip(path, "-fps_mode", "passthrough", "-enc_time_base", time_base, *args, *end, *scale, picture=picture)
