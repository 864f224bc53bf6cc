"""The referee that judges results: the ffmpeg and ffprobe of the system, never the library that wrote them."""

import gc
import hashlib
import json
import subprocess
import threading
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from media import ffmpeg, need_ffmpeg


def probe(path: Path, *args: object) -> dict[str, Any]:
    """What ffprobe says about a file."""
    need_ffmpeg()
    command = ["ffprobe", "-v", "error", "-of", "json", *map(str, args), str(path)]
    done = subprocess.run(command, capture_output=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def streams(path: Path, kind: str) -> list[dict[str, Any]]:
    """The tracks of one kind: video, audio, subtitle."""
    return [s for s in probe(path, "-show_streams")["streams"] if s["codec_type"] == kind]


@dataclass(frozen=True)
class Decoded:
    """One track as a player shows it. times, spans: seconds, exact. samples: of sound, each channel."""

    times: list[Fraction]
    spans: list[Fraction]
    samples: int = 0

    @property
    def end(self) -> Fraction:
        return self.times[-1] + self.spans[-1]


def video(path: Path, *args: object) -> Decoded:
    """Every picture that ffmpeg decodes, with its time: what an edit list hides is not among them."""
    flags = ("-map", "0:v:0", "-fps_mode", "passthrough", "-enc_time_base", "-1", "-f", "framecrc", "-")
    return _listed(ffmpeg(*args, "-copyts", "-i", path, *flags))


def audio(path: Path, track: int = 0) -> Decoded:
    """Every frame of sound that ffmpeg decodes, with its time: what is hidden as priming is not among them."""
    flags = ("-map", f"0:a:{track}", "-c:a", "pcm_f32le", "-f", "framecrc", "-")
    channels = streams(path, "audio")[track]["channels"]
    return _listed(ffmpeg("-copyts", "-i", path, *flags), 4 * channels)


def _listed(listing: bytes, sample_size: int = 0) -> Decoded:
    """The frames of a framecrc listing: stream, dts, pts, duration, size, checksum."""
    lines = listing.decode().splitlines()
    time_base = Fraction(next(line.split(":")[1].strip() for line in lines if line.startswith("#tb")))
    rows = [[int(cell) for cell in line.split(",")[:5]] for line in lines if line and not line.startswith("#")]
    samples = sum(row[4] for row in rows) // sample_size if sample_size else 0
    return Decoded([row[2] * time_base for row in rows], [row[3] * time_base for row in rows], samples)


def sound_digest(path: Path, track: int = 0) -> tuple[int, str]:
    """How many samples a track decodes to, and their sha256."""
    data = ffmpeg("-i", path, "-map", f"0:a:{track}", "-f", "f32le", "-c:a", "pcm_f32le", "-")
    channels = streams(path, "audio")[track]["channels"]
    return len(data) // 4 // channels, hashlib.sha256(data).hexdigest()


def sound(path: Path, track: int = 0) -> np.ndarray:
    """A track's samples, first channel."""
    data = ffmpeg("-i", path, "-map", f"0:a:{track}", "-ac", "1", "-f", "f32le", "-c:a", "pcm_f32le", "-")
    return np.frombuffer(data, np.float32)


def pictures(path: Path, *filters: str) -> np.ndarray:
    """All frames, upright, as RGB: (frames, height, width, 3) uint8."""
    video = streams(path, "video")[0]
    exact = "scale=flags=bicubic+accurate_rnd+full_chroma_int+full_chroma_inp+bitexact"
    chain = ",".join([*filters, exact, "format=rgb24"])
    data = ffmpeg("-i", path, "-map", "0:v:0", "-fps_mode", "passthrough", "-vf", chain, "-f", "rawvideo", "-")
    width, height = video["width"], video["height"]
    if any(abs(int(side.get("rotation", 0))) == 90 for side in video.get("side_data_list", [])):
        width, height = height, width
    return np.frombuffer(data, np.uint8).reshape(-1, height, width, 3)


def size(path: Path) -> tuple[int, int]:
    """Width and height of the picture."""
    picture = streams(path, "video")[0]
    return picture["width"], picture["height"]


def packets(path: Path, stream: str = "v:0") -> list[float]:
    """Presentation times of a stream's packets, in seconds, in order of time."""
    found = probe(path, "-select_streams", stream, "-show_entries", "packet=pts_time")["packets"]
    return sorted(float(packet["pts_time"]) for packet in found)


def count(path: Path, stream: str = "v:0") -> int:
    """Packets of a stream; some containers do not stamp each."""
    return len(probe(path, "-select_streams", stream, "-show_entries", "packet=size")["packets"])


def held() -> set[object]:
    """The threads and the open files of this process: a test leaves none of its own; those of others may go meanwhile."""
    return {*threading.enumerate(), *open_files()}


def open_files() -> set[str]:
    """The files this process holds open."""
    folder = Path("/proc/self/fd")
    if not folder.exists():
        pytest.skip("open files can be listed on Linux only")
    gc.collect()  # files of other tests, which nobody holds any more
    return {str(link.readlink()) for link in folder.iterdir() if link.is_symlink()}
