"""Clips made by tests with the ffmpeg of the test extra; the system needs none."""

import re
import subprocess
from fractions import Fraction
from functools import cache
from pathlib import Path

import imageio_ffmpeg

PICTURE = "testsrc2=size=64x48:rate=10:duration=1"
# Fixed colors: `gradients` would draw different ones at every run, even with a seed.
SMOOTH = "gradients=size=64x48:rate=10:duration=1:seed=1:c0=0x203040:c1=0xd0b090"
SOUND = "sine=frequency=440:sample_rate=44100:duration=1"


def program() -> str:
    """Return the ffmpeg that makes and judges clips: from the wheel, or the one named by IMAGEIO_FFMPEG_EXE."""
    return imageio_ffmpeg.get_ffmpeg_exe()


@cache
def version() -> tuple[int, ...]:
    """Return the numeric part of ffmpeg's version."""
    output = subprocess.run([program(), "-version"], capture_output=True, check=True, text=True, timeout=60).stdout
    return tuple(map(int, re.findall(r"\d+", output.split()[2])[:2]))


def ffmpeg(*args: object) -> bytes:
    """Run ffmpeg and return its standard output."""
    command = [program(), "-v", "error", "-y", "-nostdin", *map(str, args)]
    done = subprocess.run(command, capture_output=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def clip(path: Path, *args: object, picture: str | None = PICTURE, sound: str | None = None) -> Path:
    """Make a clip of a test pattern and a tone, encoded with the given options."""
    inputs: list[object] = []
    for source in (picture, sound):
        inputs += ["-f", "lavfi", "-i", source] if source else []
    ffmpeg(*inputs, *args, path)
    return path


def tagged(space: str, primaries: str, transfer: str, scope: str = "tv") -> tuple[str, ...]:
    """Return options that tag a clip's colors without converting them."""
    colours = f"colorspace={space}:color_primaries={primaries}:color_trc={transfer}:range={scope}"
    return "-color_range", scope, "-vf", f"setparams={colours}"


def timed(path: Path, ticks: list[int], time_base: Fraction, *args: object, last: int | None = None) -> Path:
    """Make a clip whose frames have these timestamps. args: encoder options. last: ticks of the last frame; needs no B-frames."""
    times = "+".join(f"eq(N,{n})*{tick}" for n, tick in enumerate(ticks))
    picture = f"testsrc2=size=64x48:rate=10:duration={len(ticks) / 10},settb={time_base},setpts='{times}'"
    end = ("-bf", 0, "-bsf:v", f"setts=duration={last}") if last else ()
    scale = ("-video_track_timescale", time_base.denominator) if path.suffix in (".mp4", ".mov") else ()
    return clip(path, "-fps_mode", "passthrough", "-enc_time_base", time_base, *args, *end, *scale, picture=picture)


def rotated(path: Path, flat: Path, angle: int) -> Path:
    """Copy an MP4 with a header that asks players to rotate it clockwise by a multiple of 90 degrees."""
    cosine, sine = {0: (1, 0), 90: (0, 1), 180: (-1, 0), 270: (0, -1)}[angle]
    return matrix(path, flat, (cosine, sine, -sine, cosine))


def matrix(path: Path, flat: Path, values: tuple[int, int, int, int]) -> Path:
    """Copy an MP4 with another display matrix (a, b, c, d) in the header of its first track: ISO 14496-12, 8.3.2."""
    data = bytearray(flat.read_bytes())
    at = data.index(b"tkhd") + 44
    for place, value in zip((0, 4, 12, 16), values, strict=True):
        data[at + place : at + place + 4] = (value << 16).to_bytes(4, "big", signed=True)
    path.write_bytes(data)
    return path
