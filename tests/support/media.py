"""Clips made by the tests, with an ffmpeg that comes with the test extra: the machine needs none of its own."""

import re
import subprocess
from fractions import Fraction
from functools import cache
from pathlib import Path

import imageio_ffmpeg

PICTURE = "testsrc2=size=64x48:rate=10:duration=1"
# Colors of its own: those that `gradients` draws differ at every run, whatever its seed.
SMOOTH = "gradients=size=64x48:rate=10:duration=1:seed=1:c0=0x203040:c1=0xd0b090"
SOUND = "sine=frequency=440:sample_rate=44100:duration=1"


def program() -> str:
    """The ffmpeg that makes and judges clips: the wheel's, or the one that IMAGEIO_FFMPEG_EXE names."""
    return imageio_ffmpeg.get_ffmpeg_exe()


@cache
def version() -> tuple[int, ...]:
    """The version of ffmpeg, as far as it has numbers."""
    said = subprocess.run([program(), "-version"], capture_output=True, check=True, text=True, timeout=60).stdout
    return tuple(map(int, re.findall(r"\d+", said.split()[2])[:2]))


def ffmpeg(*args: object) -> bytes:
    """Run ffmpeg; give what it wrote to its standard output."""
    command = [program(), "-v", "error", "-y", "-nostdin", *map(str, args)]
    done = subprocess.run(command, capture_output=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def clip(path: Path, *args: object, picture: str | None = PICTURE, sound: str | None = None) -> Path:
    """A clip of a drawn picture and a tone, encoded as the arguments say."""
    inputs: list[object] = []
    for source in (picture, sound):
        inputs += ["-f", "lavfi", "-i", source] if source else []
    ffmpeg(*inputs, *args, path)
    return path


def tagged(space: str, primaries: str, transfer: str, scope: str = "tv") -> tuple[str, ...]:
    """Options that label a clip's colours and change none."""
    colours = f"colorspace={space}:color_primaries={primaries}:color_trc={transfer}:range={scope}"
    return "-color_range", scope, "-vf", f"setparams={colours}"


def timed(path: Path, ticks: list[int], time_base: Fraction, *args: object, last: int | None = None) -> Path:
    """A clip whose frames have these times. args: how to encode. last: ticks of the last frame, which rules B-frames out."""
    times = "+".join(f"eq(N,{n})*{tick}" for n, tick in enumerate(ticks))
    picture = f"testsrc2=size=64x48:rate=10:duration={len(ticks) / 10},settb={time_base},setpts='{times}'"
    end = ("-bf", 0, "-bsf:v", f"setts=duration={last}") if last else ()
    scale = ("-video_track_timescale", time_base.denominator) if path.suffix in (".mp4", ".mov") else ()
    return clip(path, "-fps_mode", "passthrough", "-enc_time_base", time_base, *args, *end, *scale, picture=picture)


def rotated(path: Path, flat: Path, angle: int) -> Path:
    """A copy of an MP4 whose header asks players to turn it clockwise by a multiple of 90 degrees."""
    cosine, sine = {0: (1, 0), 90: (0, 1), 180: (-1, 0), 270: (0, -1)}[angle]
    return matrix(path, flat, (cosine, sine, -sine, cosine))


def matrix(path: Path, flat: Path, values: tuple[int, int, int, int]) -> Path:
    """A copy of an MP4 with another display matrix (a, b, c, d) in the header of its first track: ISO 14496-12, 8.3.2."""
    data = bytearray(flat.read_bytes())
    at = data.index(b"tkhd") + 44
    for place, value in zip((0, 4, 12, 16), values, strict=True):
        data[at + place : at + place + 4] = (value << 16).to_bytes(4, "big", signed=True)
    path.write_bytes(data)
    return path
