"""The referee that judges results: an ffmpeg program, never the library that wrote them."""

import gc
import hashlib
import re
import subprocess
import threading
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from media import ffmpeg, program, version

STREAM = re.compile(r"Stream #0:\d+(?:\[\w+\])?(?:\((?P<language>\w+)\))?: (?P<kind>\w+): (?P<codec>\w+)(?P<rest>.*)")
PICTURE = re.compile(r", (?P<pix_fmt>\w+)(?:\((?P<details>[^)]*)\))?, (?P<width>\d+)x(?P<height>\d+)")
SOUND = re.compile(r", (?P<sample_rate>\d+) Hz, (?P<layout>[^,]+)")
CHAPTER = re.compile(r"Chapter #0:\d+: start (?P<start>[-\d.]+), end (?P<end>[-\d.]+)")
FLAGS = ("default", "dub", "original", "comment", "forced", "hearing impaired", "visual impaired", "attached pic")
CHANNELS = {"mono": 1, "stereo": 2, "quad": 4}


@dataclass(frozen=True)
class Listing:
    """What ffmpeg says about a file: its tags, its chapters as (start, end, title), its streams by ffprobe's names."""

    tags: dict[str, str]
    chapters: list[tuple[float, float, str]]
    streams: list[dict[str, Any]]


def listing(path: Path) -> Listing:
    """What `ffmpeg -i` prints of a file."""
    command = [program(), "-hide_banner", "-nostdin", "-i", str(path)]
    printed = subprocess.run(command, capture_output=True, check=False, timeout=60).stderr.decode(errors="replace")
    found = Listing({}, [], [])
    chapters: list[dict[str, Any]] = []
    tags = found.tags
    for line in printed.splitlines():
        if stream := STREAM.search(line):
            found.streams.append(_stream(stream))
            tags = found.streams[-1]["tags"]
        elif chapter := CHAPTER.search(line):
            chapters.append({"start": float(chapter["start"]), "end": float(chapter["end"])})
            tags = chapters[-1]
        elif turned := re.search(r"(?i)display ?matrix: rotation of ([-\d.]+) degrees", line):
            found.streams[-1]["rotation"] = float(turned[1])
        elif tag := re.fullmatch(r" {4,}(\w+) *: (.*)", line):
            tags[tag[1]] = tag[2]
    found.chapters.extend((each["start"], each["end"], each.get("title", "")) for each in chapters)
    return found


def _stream(line: re.Match[str]) -> dict[str, Any]:
    """One line of a listing as ffprobe would have said it; what the line does not say is absent."""
    rest = line["rest"]
    stream: dict[str, Any] = {"codec_type": line["kind"].lower(), "codec_name": line["codec"], "tags": {}}
    if line["language"]:
        stream["tags"]["language"] = line["language"]
    stream["disposition"] = {flag for flag in FLAGS if f" ({flag})" in rest}
    if tag := re.search(r"\((\S+) / 0x", rest):
        stream["codec_tag_string"] = tag[1]
    if picture := PICTURE.search(rest):
        stream |= {"pix_fmt": picture["pix_fmt"], "width": int(picture["width"]), "height": int(picture["height"])}
        stream |= _colours((picture["details"] or "").split(", "))
    if aspect := re.search(r"SAR (\d+:\d+)", rest):
        stream["sample_aspect_ratio"] = aspect[1]
    if sound := SOUND.search(rest):
        layout = sound["layout"].partition("(")[0].removesuffix(" channels")
        stream |= {"sample_rate": int(sound["sample_rate"]), "channels": CHANNELS.get(layout) or _channels(layout)}
        stream["channel_layout"] = sound["layout"]
    return stream


def _channels(layout: str) -> int:
    """Channels of a layout with a number for a name: 7.1 has 8."""
    return sum(map(int, layout.split(".")))


def _colours(details: list[str]) -> dict[str, str]:
    """Range and colours: `tv, bt709` or `tv, bt2020nc/bt2020/bt2020-10`, among field order and chroma location."""
    found = {}
    for detail in details:
        names = detail.split("/")
        if detail in ("tv", "pc"):
            found["color_range"] = detail
        elif len(names) == 3 or re.match(r"(bt|smpte|gbr|fcc|ycgco)", detail):
            space, primaries, transfer = names * (3 // len(names))
            found |= {"color_space": space, "color_primaries": primaries, "color_transfer": transfer}
    return found


def streams(path: Path, kind: str) -> list[dict[str, Any]]:
    """The tracks of one kind: video, audio, subtitle."""
    return [stream for stream in listing(path).streams if stream["codec_type"] == kind]


@dataclass(frozen=True)
class Packet:
    """One packet as its container stores it; pts, dts and duration in seconds. hidden: by an edit list."""

    pts: Fraction
    dts: Fraction
    duration: Fraction
    size: int
    key: bool
    hidden: bool


def stored(path: Path, stream: str = "v:0", *args: object) -> list[Packet]:
    """Every packet of a stream, in the order of its container. args: options of the demuxer."""
    flags = ("-map", f"0:{stream}", "-c", "copy", "-copyinkf", "-copyts", "-f", "framecrc", "-")
    time_base, rows = _rows(ffmpeg(*args, "-i", path, *flags))
    found = []
    for dts, pts, duration, size, _, *rest in rows:
        marks = next((int(cell.removeprefix("F=0x"), 16) for cell in rest if cell.startswith("F=0x")), 1)
        times = (int(cell) * time_base for cell in (pts, dts, duration))
        found.append(Packet(*times, int(size), key=bool(marks & 1), hidden=bool(marks & 4)))
    return found


def payloads(path: Path, stream: str = "v:0") -> list[bytes]:
    """The bytes of every packet of a stream."""
    data = ffmpeg("-i", path, "-map", f"0:{stream}", "-c", "copy", "-copyinkf", "-f", "data", "-")
    cut, at = [], 0
    for packet in stored(path, stream):
        cut.append(data[at : at + packet.size])
        at += packet.size
    return cut


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
    base = "demux" if version() >= (6, 1) else "-1"  # that of the source
    flags = ("-map", "0:v:0", "-fps_mode", "passthrough", "-enc_time_base", base, "-f", "framecrc", "-")
    return _listed(ffmpeg(*args, "-copyts", "-i", path, *flags))


def audio(path: Path, track: int = 0) -> Decoded:
    """Every frame of sound that ffmpeg decodes, with its time: what is hidden as priming is not among them."""
    flags = ("-map", f"0:a:{track}", "-c:a", "pcm_f32le", "-f", "framecrc", "-")
    channels = streams(path, "audio")[track]["channels"]
    return _listed(ffmpeg("-copyts", "-i", path, *flags), 4 * channels)


def _rows(text: bytes) -> tuple[Fraction, list[list[str]]]:
    """The time base and the rows of a framecrc listing: dts, pts, duration, size, checksum and what follows."""
    lines = text.decode().splitlines()
    time_base = Fraction(next(line.split(":")[1].strip() for line in lines if line.startswith("#tb")))
    rows = [[cell.strip() for cell in line.split(",")[1:]] for line in lines if line and not line.startswith("#")]
    return time_base, rows


def _listed(text: bytes, sample_size: int = 0) -> Decoded:
    """The frames of a framecrc listing."""
    time_base, rows = _rows(text)
    samples = sum(int(row[3]) for row in rows) // sample_size if sample_size else 0
    return Decoded([int(row[1]) * time_base for row in rows], [int(row[2]) * time_base for row in rows], samples)


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
    if abs(video.get("rotation", 0)) == 90:
        width, height = height, width
    return np.frombuffer(data, np.uint8).reshape(-1, height, width, 3)


def size(path: Path) -> tuple[int, int]:
    """Width and height of the picture."""
    picture = streams(path, "video")[0]
    return picture["width"], picture["height"]


def packets(path: Path, stream: str = "v:0") -> list[float]:
    """Presentation times of a stream's packets, in seconds, in order of time."""
    return sorted(float(packet.pts) for packet in stored(path, stream))


def count(path: Path, stream: str = "v:0") -> int:
    """Packets of a stream."""
    return len(stored(path, stream))


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
