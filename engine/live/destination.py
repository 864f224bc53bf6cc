"""Destinations of a live result, by name: a file, a folder for HLS, an address, or stdout."""

import glob
import re
import shutil
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO
from urllib.parse import unquote, urlsplit

from upres.engine.core.errors import TargetError, os_errors_as
from upres.engine.core.text import redacted
from upres.engine.decode.source import Source
from upres.engine.encode.join.stream import Writable
from upres.engine.machine.companion import last_line, tied
from upres.engine.pipeline.target import folder_problems, path_problems

FILES = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".ts": "mpegts", ".m3u8": "hls"}
ADDRESSES = {"rtmp": "flv", "rtmps": "flv", "rtsp": "rtsp", "udp": "mpegts", "tcp": "mpegts"}
# Sent through the ffmpeg program. NUT describes its streams in the header; ffmpeg would probe many frames of MPEG-TS. Unlike
# Matroska, it does not delay a frame until the next one.
ADDRESSES |= dict.fromkeys(("srt", "whip+https", "whip+http"), "nut")
PLAYLIST = "index.m3u8"
SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
PROMPT = ("-analyzeduration", "500000", "-fpsprobesize", "0")
"""Half a second is enough to probe our tracks; ffmpeg's defaults, five seconds or twenty frames, would delay the whole result."""
LINGER = ("-linger", "3")  # seconds for sent data to arrive; without it the end would be cut off
# Include the length of each frame if it fits into two bytes, so that receivers need not wait for the next frame to find its end.
COPIED = ("-map", "0", "-c", "copy", "-f", "mpegts", "-omit_video_pes_length", "0")
WHIP = "whip+"  # prefix of http:// or https://
AS_RTC = ("-map", "0:v", "-map", "0:a:0?", "-c:v", "copy", "-c:a", "libopus", "-ar", "48000", "-ac", "2", "-f", "whip")
END_SECONDS = 10.0  # timeout for the program to send its remaining data
ASK_SECONDS = 10.0  # timeout for the program to report its features
ANSWER_SECONDS = 10.0  # timeout for a WHIP receiver to answer the offer; afterwards it may be silent


@dataclass(frozen=True, slots=True)
class Destination:
    """One destination. name: as the user gave it, with secrets in an address redacted. container: libavformat's format.

    place: a path or an address; None for stdout.
    """

    name: str
    container: str
    place: str | None
    _programs: "list[subprocess.Popen[bytes]]" = field(default_factory=list, init=False, repr=False, compare=False)

    @property
    def is_file(self) -> bool:
        """Whether it stores the result, so that nothing may be dropped."""
        return self.place is None or SCHEME.match(self.place) is None

    @contextmanager
    def opened(self) -> Iterator[str | Writable]:
        """Open the destination and close it at the end. Yields a file, or an address or playlist for libavformat.

        Raises TargetError if that fails.
        """
        if self.place is None:
            yield sys.stdout.buffer
        elif self.place.lower().startswith(("srt://", WHIP)):
            with _sent_by_ffmpeg(self.place, self._programs) as pipe:
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

    def abandon(self) -> None:
        """Kill the program that sends the data, if there is one. A thread that is writing to it then fails."""
        for program in self._programs:
            program.kill()


def destinations(names: Sequence[str], source: Source, *, overwrite: bool) -> list[Destination]:
    """Parse the names of destinations, before any is opened.

    Raises a TargetError that lists all problems: an invalid name, a duplicate, the source itself, an existing file or playlist that
    must not be replaced, or a folder that is not writable.
    """
    places, problems, seen = list[Destination](), list[str](), set[object]()
    for name in names:
        try:
            place = destination(name)
            with os_errors_as(name, TargetError):
                wrong = _problems(place, source, overwrite=overwrite)
                twice = (identity := _identity(place)) in seen
        except TargetError as error:
            problems.append(str(error))
            continue
        wrong += ["is named twice; name each place once"] * twice
        problems += [f"{place.name}: {'; '.join(wrong)}"] * bool(wrong)
        places.append(place)
        seen.add(identity)
    if problems:
        raise TargetError("; ".join(problems))
    return places


def _problems(place: Destination, source: Source, *, overwrite: bool) -> list[str]:
    if place.place is not None and place.place.lower().startswith(WHIP):
        return _whip_problems()
    if place.place is None or not place.is_file:
        return []
    path = Path(place.place)
    if place.container != "hls":
        return [*path_problems(source, path, overwrite=overwrite), *folder_problems(path.parent)]
    # The muxer creates the folder, and names segments by the playlist's stem and a number.
    files = [path, *path.parent.glob(f"{glob.escape(path.stem)}[0-9]*.ts")]
    wrong = [
        f"{file.name} {problem}" if str(file) != place.name else problem
        for replaced in (True, overwrite)  # that a file is the source matters more than that it exists
        for file in files
        for problem in path_problems(source, file, overwrite=replaced)
    ]
    nearest = next(folder for folder in path.absolute().parents if folder.exists())
    return [*wrong[:1], *folder_problems(nearest)]


def _identity(place: Destination) -> object:
    """Return a value that is equal for different names of one destination."""
    if place.place is None or not place.is_file:
        return place.place
    path = Path(place.place)
    return (path.stat().st_dev, path.stat().st_ino) if path.exists() else path.resolve()


def destination(name: str) -> Destination:
    """Parse the name of a destination. Raises TargetError if a live result cannot be sent there."""
    if name == "-":
        return Destination(name, "mp4", None)
    if scheme := SCHEME.match(name):
        if scheme[1].lower() in ADDRESSES:
            return Destination(_shown(name), ADDRESSES[scheme[1].lower()], name)
        raise TargetError(f"{_shown(name)}: a live result goes to {', '.join(ADDRESSES)}, a file, a folder or -")
    path = Path(name)
    if name.endswith("/") or path.is_dir():
        return Destination(name, "hls", str(path / PLAYLIST))
    if path.suffix.lower() not in FILES:
        raise TargetError(f"{name}: the name must end in {', '.join(FILES)}, or in / for a folder with an HLS playlist")
    return Destination(name, FILES[path.suffix.lower()], name)


def _shown(address: str) -> str:
    """Return an address for display: redacted, and with spaces, which passphrases may contain, escaped."""
    return redacted("%20".join(address.split()))


@contextmanager
def _sent_by_ffmpeg(address: str, programs: "list[subprocess.Popen[bytes]]") -> Iterator[IO[bytes]]:
    """Yield a pipe for NUT whose contents the ffmpeg program sends, because PyAV's FFmpeg has no SRT. programs: it is appended.

    Raises a TargetError with the program's last message if it did not send everything.
    """
    program = shutil.which("ffmpeg")
    if program is None:
        raise TargetError("needs the ffmpeg program, which is not installed; get it with your system")
    expected, onward = ("MPEG-TS", [*COPIED, *LINGER, address])
    if address.lower().startswith(WHIP):
        expected, onward = "H.264", _to_whip(address[len(WHIP) :], program)
    command = [program, "-loglevel", "error", *PROMPT, "-f", "nut", "-i", "pipe:0", *onward]
    # In a separate session, so that Ctrl-C in a terminal only ends upres, which then ends the program in order.
    process = subprocess.Popen(tied(command), stdin=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    programs.append(process)
    assert process.stdin is not None and process.stderr is not None
    message = deque[bytes](maxlen=1)
    listening = threading.Thread(target=last_line, args=(process.stderr, message), daemon=True)
    listening.start()
    broken = ""
    try:
        yield process.stdin
    except TargetError as error:
        if not isinstance(error.__cause__, BrokenPipeError):
            raise
        broken = "ffmpeg ended before all was sent"
    finally:
        problem = _end(process, listening)
    if problem := problem or broken:
        line = message[0].decode(errors="replace").strip() if message else ""
        last = f" ({redacted(line.replace(onward[-1], _shown(onward[-1])))})" if line else ""
        raise TargetError(f"{problem}{last}; check that a receiver listens there, and accepts {expected}")


def _to_whip(address: str, program: str) -> list[str]:
    """Return ffmpeg's options for sending to a WHIP address, with audio as Opus. The part before @ is a bearer token."""
    parts = urlsplit(address)
    token, _, host = parts.netloc.rpartition("@")
    authorization = ["-authorization", unquote(token)] if token else []
    limit = ["-timeout", f"{ANSWER_SECONDS:g}"] if "-timeout " in _whip_help(program) else []  # since FFmpeg 9
    return [*AS_RTC, *authorization, *limit, parts._replace(netloc=host).geturl()]


def _whip_problems() -> list[str]:
    """Return why WHIP is unavailable; empty if it is available. ffmpeg supports it since version 8, depending on its build."""
    program = shutil.which("ffmpeg")
    if program is None:
        return ["needs the ffmpeg program, version 8 or later, which is not installed"]
    try:
        known = _whip_help(program).startswith("Muxer whip ")
    except TargetError as error:
        return [str(error)]
    return [] if known else [f"needs an ffmpeg program with the muxer whip, version 8 or later, and {program} has none"]


def _whip_help(program: str) -> str:
    """Return an ffmpeg program's help on the WHIP muxer. Raises TargetError if the program fails."""
    question = [program, "-hide_banner", "-h", "muxer=whip"]
    try:
        return subprocess.run(question, capture_output=True, text=True, timeout=ASK_SECONDS).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        raise TargetError(f"needs the ffmpeg program, and {program} does not report its features ({error})") from error


def _end(process: "subprocess.Popen[bytes]", listening: threading.Thread) -> str:
    """Wait for a program to send its remaining data; return what went wrong, or an empty string."""
    assert process.stdin is not None
    with suppress(BrokenPipeError):
        process.stdin.close()
    try:
        status = process.wait(END_SECONDS)
        return f"ffmpeg could not send it, and ended with status {status}" if status else ""
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return f"ffmpeg was still sending {END_SECONDS:g} s after the end"
    finally:
        listening.join(1)  # a child process of the program could keep the pipe open
