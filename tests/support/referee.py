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
    """ffmpeg's description of a file: tags, chapters as (start, end, title), and streams with ffprobe's names."""

    tags: dict[str, str]
    chapters: list[tuple[float, float, str]]
    streams: list[dict[str, Any]]


def listing(path: Path) -> Listing:
    """Return the output of `ffmpeg -i`."""
    command = [program(), "-hide_banner", "-nostdin", "-i", str(path)]
    printed = subprocess.run(command, capture_output=True, check=False, timeout=60).stderr.decode(errors="replace")
    contents = Listing({}, [], [])
    chapters: list[dict[str, Any]] = []
    tags = contents.tags
    for line in printed.splitlines():
        if stream := STREAM.search(line):
            contents.streams.append(_stream(stream))
            tags = contents.streams[-1]["tags"]
        elif chapter := CHAPTER.search(line):
            chapters.append({"start": float(chapter["start"]), "end": float(chapter["end"])})
            tags = chapters[-1]
        elif turned := re.search(r"(?i)display ?matrix: rotation of ([-\d.]+) degrees", line):
            contents.streams[-1]["rotation"] = float(turned[1])
        elif tag := re.fullmatch(r" {4,}(\w+) *: (.*)", line):
            tags[tag[1]] = tag[2]
    contents.chapters.extend((each["start"], each["end"], each.get("title", "")) for each in chapters)
    return contents


def _stream(line: re.Match[str]) -> dict[str, Any]:
    """Parse one line of a listing into ffprobe's fields; fields that the line lacks are absent."""
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
    """Return the channel count of a layout that is named by a number: 8 for 7.1."""
    return sum(map(int, layout.split(".")))


def _colours(details: list[str]) -> dict[str, str]:
    """Parse range and colors: `tv, bt709` or `tv, bt2020nc/bt2020/bt2020-10`, next to field order and chroma location."""
    fields = {}
    for detail in details:
        names = detail.split("/")
        if detail in ("tv", "pc"):
            fields["color_range"] = detail
        elif len(names) == 3 or re.match(r"(bt|smpte|gbr|fcc|ycgco)", detail):
            space, primaries, transfer = names * (3 // len(names))
            fields |= {"color_space": space, "color_primaries": primaries, "color_transfer": transfer}
    return fields


def streams(path: Path, kind: str) -> list[dict[str, Any]]:
    """Return the tracks of one kind: video, audio, subtitle."""
    return [stream for stream in listing(path).streams if stream["codec_type"] == kind]


@dataclass(frozen=True)
class Packet:
    """A packet as stored in the container; pts, dts and duration in seconds. hidden: by an edit list."""

    pts: Fraction
    dts: Fraction
    duration: Fraction
    size: int
    key: bool
    hidden: bool


def stored(path: Path, stream: str = "v:0", *args: object) -> list[Packet]:
    """Return all packets of a stream in container order. args: demuxer options."""
    flags = ("-map", f"0:{stream}", "-c", "copy", "-copyinkf", "-copyts", "-f", "framecrc", "-")
    time_base, rows = _rows(ffmpeg(*args, "-i", path, *flags))
    result = []
    for dts, pts, duration, size, _, *rest in rows:
        marks = next((int(cell.removeprefix("F=0x"), 16) for cell in rest if cell.startswith("F=0x")), 1)
        times = (int(cell) * time_base for cell in (pts, dts, duration))
        result.append(Packet(*times, int(size), key=bool(marks & 1), hidden=bool(marks & 4)))
    return result


def payloads(path: Path, stream: str = "v:0") -> list[bytes]:
    """Return the bytes of every packet of a stream."""
    data = ffmpeg("-i", path, "-map", f"0:{stream}", "-c", "copy", "-copyinkf", "-f", "data", "-")
    cut, at = [], 0
    for packet in stored(path, stream):
        cut.append(data[at : at + packet.size])
        at += packet.size
    return cut


@dataclass(frozen=True)
class Decoded:
    """A track as a player presents it. times, spans: seconds, exact. samples: per audio frame and channel."""

    times: list[Fraction]
    spans: list[Fraction]
    samples: int = 0

    @property
    def end(self) -> Fraction:
        return self.times[-1] + self.spans[-1]


def video(path: Path, *args: object) -> Decoded:
    """Return every decoded frame with its time; frames hidden by an edit list are excluded."""
    base = "demux" if version() >= (6, 1) else "-1"  # that of the source
    flags = ("-map", "0:v:0", "-fps_mode", "passthrough", "-enc_time_base", base, "-f", "framecrc", "-")
    return _listed(ffmpeg(*args, "-copyts", "-i", path, *flags))


def audio(path: Path, track: int = 0) -> Decoded:
    """Return every decoded audio frame with its time; hidden priming is excluded."""
    flags = ("-map", f"0:a:{track}", "-c:a", "pcm_f32le", "-f", "framecrc", "-")
    channels = streams(path, "audio")[track]["channels"]
    return _listed(ffmpeg("-copyts", "-i", path, *flags), 4 * channels)


def _rows(text: bytes) -> tuple[Fraction, list[list[str]]]:
    """Return the time base and the rows of a framecrc listing: dts, pts, duration, size, checksum and the rest."""
    lines = text.decode().splitlines()
    time_base = Fraction(next(line.split(":")[1].strip() for line in lines if line.startswith("#tb")))
    rows = [[cell.strip() for cell in line.split(",")[1:]] for line in lines if line and not line.startswith("#")]
    return time_base, rows


def _listed(text: bytes, sample_size: int = 0) -> Decoded:
    """Return the frames of a framecrc listing."""
    time_base, rows = _rows(text)
    samples = sum(int(row[3]) for row in rows) // sample_size if sample_size else 0
    return Decoded([int(row[1]) * time_base for row in rows], [int(row[2]) * time_base for row in rows], samples)


def sound_digest(path: Path, track: int = 0) -> tuple[int, str]:
    """Return how many samples a track decodes to, and their sha256."""
    data = ffmpeg("-i", path, "-map", f"0:a:{track}", "-f", "f32le", "-c:a", "pcm_f32le", "-")
    channels = streams(path, "audio")[track]["channels"]
    return len(data) // 4 // channels, hashlib.sha256(data).hexdigest()


def sound(path: Path, track: int = 0) -> np.ndarray:
    """Return a track's samples of the first channel."""
    data = ffmpeg("-i", path, "-map", f"0:a:{track}", "-ac", "1", "-f", "f32le", "-c:a", "pcm_f32le", "-")
    return np.frombuffer(data, np.float32)


def pictures(path: Path, *filters: str) -> np.ndarray:
    """Return all frames, upright, as RGB: (frames, height, width, 3) uint8."""
    video = streams(path, "video")[0]
    exact = "scale=flags=bicubic+accurate_rnd+full_chroma_int+full_chroma_inp+bitexact"
    chain = ",".join([*filters, exact, "format=rgb24"])
    data = ffmpeg("-i", path, "-map", "0:v:0", "-fps_mode", "passthrough", "-vf", chain, "-f", "rawvideo", "-")
    width, height = video["width"], video["height"]
    if abs(video.get("rotation", 0)) == 90:
        width, height = height, width
    return np.frombuffer(data, np.uint8).reshape(-1, height, width, 3)


def size(path: Path) -> tuple[int, int]:
    """Return width and height of the video."""
    picture = streams(path, "video")[0]
    return picture["width"], picture["height"]


def packets(path: Path, stream: str = "v:0") -> list[float]:
    """Return the presentation times of a stream's packets in seconds, sorted."""
    return sorted(float(packet.pts) for packet in stored(path, stream))


def count(path: Path, stream: str = "v:0") -> int:
    """Count the packets of a stream."""
    return len(stored(path, stream))


def resources() -> set[object]:
    """Return this process's threads and open files. A test must not leave any behind; those of other tests may disappear."""
    return {*threading.enumerate(), *open_files()}


def open_files() -> set[str]:
    """Return the files that this process holds open."""
    folder = Path("/proc/self/fd")
    if not folder.exists():
        pytest.skip("open files can be listed on Linux only")
    gc.collect()  # closes files that other tests no longer reference
    return {str(link.readlink()) for link in folder.iterdir() if link.is_symlink()}
