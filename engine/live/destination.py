"""Where a live result goes, by its name: a file, a folder for HLS, an address, or stdout."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from upres.engine.core.errors import TargetError, os_errors_as
from upres.engine.encode.join.stream import Writable

FILES = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".ts": "mpegts", ".m3u8": "hls"}
ADDRESSES = {"rtmp": "flv", "rtmps": "flv", "rtsp": "rtsp", "udp": "mpegts", "tcp": "mpegts", "srt": "mpegts"}
PLAYLIST = "index.m3u8"
SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
PROMPT = ("-analyzeduration", "500000")
"""Half a second is enough to know our own tracks by; ffmpeg's five would delay all of the result."""
LINGER = ("-linger", "3")  # seconds for what has been sent to arrive; otherwise the end would be cut off
END_SECONDS = 10.0  # for a program to send what it still has


@dataclass(frozen=True, slots=True)
class Destination:
    """name: as the user gave it. container: libavformat's format. place: a path or an address; None for stdout."""

    name: str
    container: str
    place: str | None

    @property
    def is_file(self) -> bool:
        """Tell whether it keeps what it gets, so that it must lose nothing."""
        return self.place is None or SCHEME.match(self.place) is None

    @contextmanager
    def opened(self) -> Iterator[str | Writable]:
        """Open what is written to: an address or playlist for libavformat, or a file; close it at the end.

        Raises TargetError where that cannot be done.
        """
        if self.place is None:
            yield sys.stdout.buffer
        elif self.place.lower().startswith("srt://"):
            with _sent_by_ffmpeg(self.place) as pipe:
                yield pipe
        elif not self.is_file:
            yield self.place
        elif self.container == "hls":
            with os_errors_as(self.place, TargetError):
                Path(self.place).parent.mkdir(parents=True, exist_ok=True)
            yield self.place
        else:
            with os_errors_as(self.place, TargetError):
                file = Path(self.place).open("wb")  # noqa: SIM115 - closed below
            with file:
                yield file


def destination(name: str) -> Destination:
    """Find out what a name stands for; TargetError where that is nothing that a live result can go to."""
    if name == "-":
        return Destination(name, "mp4", None)
    if scheme := SCHEME.match(name):
        if scheme[1].lower() in ADDRESSES:
            return Destination(name, ADDRESSES[scheme[1].lower()], name)
        raise TargetError(f"{name}: a live result goes to {', '.join(ADDRESSES)}, a file, a folder or -")
    path = Path(name)
    if name.endswith("/") or path.is_dir():
        return Destination(name, "hls", str(path / PLAYLIST))
    if path.suffix.lower() not in FILES:
        raise TargetError(f"{name}: the name must end in {', '.join(FILES)}, or in / for a folder with an HLS playlist")
    return Destination(name, FILES[path.suffix.lower()], name)


@contextmanager
def _sent_by_ffmpeg(address: str) -> Iterator[IO[bytes]]:
    """Give a pipe for MPEG-TS that the ffmpeg program sends on: PyAV's own FFmpeg has no SRT."""
    found = shutil.which("ffmpeg")
    if found is None:
        raise TargetError(f"{address} needs the ffmpeg program, which is not installed; get it with your system")
    command = [
        found,
        "-loglevel",
        "error",
        *PROMPT,
        "-f",
        "mpegts",
        "-i",
        "pipe:0",
        "-map",
        "0",
        "-c",
        "copy",
        "-f",
        "mpegts",
    ]
    process = subprocess.Popen([*command, *LINGER, address], stdin=subprocess.PIPE)
    assert process.stdin is not None
    try:
        yield process.stdin
    finally:
        try:
            process.communicate(timeout=END_SECONDS)
        except (subprocess.TimeoutExpired, OSError):
            process.kill()
            process.wait()
