"""Where a live result goes, by its name: a file, a folder for HLS, an address, or stdout."""

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
from upres.engine.pipeline.target import in_the_way, unwritable

FILES = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".ts": "mpegts", ".m3u8": "hls"}
ADDRESSES = {"rtmp": "flv", "rtmps": "flv", "rtsp": "rtsp", "udp": "mpegts", "tcp": "mpegts"}
# By way of the ffmpeg program, which knows what is in NUT by its header, and would look at many frames of MPEG-TS for that. And no
# frame of it is held back until the next one, as in Matroska.
ADDRESSES |= dict.fromkeys(("srt", "whip+https", "whip+http"), "nut")
PLAYLIST = "index.m3u8"
SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
PROMPT = ("-analyzeduration", "500000", "-fpsprobesize", "0")
"""Half a second is enough to know our tracks by; ffmpeg's five, or twenty frames of a slow run, would delay all of the result."""
LINGER = ("-linger", "3")  # seconds for what has been sent to arrive; otherwise the end would be cut off
# With the length of each frame, as far as two bytes say it, so that receivers need not wait for the next one to know where it ends.
COPIED = ("-map", "0", "-c", "copy", "-f", "mpegts", "-omit_video_pes_length", "0")
WHIP = "whip+"  # before http:// or https://
AS_RTC = ("-map", "0:v", "-map", "0:a:0?", "-c:v", "copy", "-c:a", "libopus", "-ar", "48000", "-ac", "2", "-f", "whip")
END_SECONDS = 10.0  # for a program to send what it still has
ASK_SECONDS = 10.0  # for it to say what it can
ANSWER_SECONDS = 10.0  # for a receiver of WHIP to answer the offer; once it has, it may be silent


@dataclass(frozen=True, slots=True)
class Destination:
    """name: as the user gave it; of an address, what may be shown. container: libavformat's format.

    place: a path or an address; None for stdout.
    """

    name: str
    container: str
    place: str | None
    _programs: "list[subprocess.Popen[bytes]]" = field(default_factory=list, init=False, repr=False, compare=False)

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
        """Kill the program that sends it on, if there is one: who writes to it, in another thread, then fails."""
        for program in self._programs:
            program.kill()


def destinations(names: Sequence[str], source: Source, *, overwrite: bool) -> list[Destination]:
    """Find out what names stand for, before any is opened.

    Raises TargetError that names everything that is wrong: a name for nothing, the same place twice, the source itself, a file or
    playlist that exists and is not to be replaced, a folder that cannot be written to.
    """
    places, problems, seen = list[Destination](), list[str](), set[object]()
    for name in names:
        try:
            place = destination(name)
            with os_errors_as(name, TargetError):
                found = _problems(place, source, overwrite=overwrite)
                twice = (identity := _identity(place)) in seen
        except TargetError as error:
            problems.append(str(error))
            continue
        found += ["is named twice; name each place once"] * twice
        problems += [f"{place.name}: {'; '.join(found)}"] * bool(found)
        places.append(place)
        seen.add(identity)
    if problems:
        raise TargetError("; ".join(problems))
    return places


def _problems(place: Destination, source: Source, *, overwrite: bool) -> list[str]:
    if place.place is not None and place.place.lower().startswith(WHIP):
        return _without_whip()
    if place.place is None or not place.is_file:
        return []
    path = Path(place.place)
    if place.container != "hls":
        return [*in_the_way(source, path, overwrite=overwrite), *unwritable(path.parent)]
    # The muxer makes the folder and numbers its segments behind the playlist's name.
    files = [path, *path.parent.glob(f"{glob.escape(path.stem)}[0-9]*.ts")]
    wrong = [
        f"{file.name} {problem}" if str(file) != place.name else problem
        for replaced in (True, overwrite)  # that one is the source matters more than that it exists
        for file in files
        for problem in in_the_way(source, file, overwrite=replaced)
    ]
    there = next(folder for folder in path.absolute().parents if folder.exists())
    return [*wrong[:1], *unwritable(there)]


def _identity(place: Destination) -> object:
    """Return what is equal for two names of one place."""
    if place.place is None or not place.is_file:
        return place.place
    path = Path(place.place)
    return (path.stat().st_dev, path.stat().st_ino) if path.exists() else path.resolve()


def destination(name: str) -> Destination:
    """Find out what a name stands for; TargetError where that is nothing that a live result can go to."""
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
    """Write an address that may have spaces in it, as passphrases do, as anybody may see it."""
    return redacted("%20".join(address.split()))


@contextmanager
def _sent_by_ffmpeg(address: str, programs: "list[subprocess.Popen[bytes]]") -> Iterator[IO[bytes]]:
    """Give a pipe for NUT that the ffmpeg program sends on: PyAV's own FFmpeg has no SRT. programs: it is added to them.

    Raises TargetError, with the program's last line, where it did not send all of it.
    """
    found = shutil.which("ffmpeg")
    if found is None:
        raise TargetError("needs the ffmpeg program, which is not installed; get it with your system")
    takes, onward = ("MPEG-TS", [*COPIED, *LINGER, address])
    if address.lower().startswith(WHIP):
        takes, onward = "H.264", _to_whip(address[len(WHIP) :], found)
    command = [found, "-loglevel", "error", *PROMPT, "-f", "nut", "-i", "pipe:0", *onward]
    # In a session of its own, so that Ctrl-C at a terminal ends upres, which then ends it in order.
    process = subprocess.Popen(tied(command), stdin=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    programs.append(process)
    assert process.stdin is not None and process.stderr is not None
    said = deque[bytes](maxlen=1)
    listening = threading.Thread(target=last_line, args=(process.stderr, said), daemon=True)
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
        line = said[0].decode(errors="replace").strip() if said else ""
        last = f" ({redacted(line.replace(onward[-1], _shown(onward[-1])))})" if line else ""
        raise TargetError(f"{problem}{last}; see whether a receiver listens there, and takes {takes}")


def _to_whip(address: str, program: str) -> list[str]:
    """Return how ffmpeg sends to an address of WHIP: as it is, with sound as Opus. What stands before @ is a token."""
    parts = urlsplit(address)
    token, _, host = parts.netloc.rpartition("@")
    authorization = ["-authorization", unquote(token)] if token else []
    limit = ["-timeout", f"{ANSWER_SECONDS:g}"] if "-timeout " in _whip_in(program) else []  # since its version 9
    return [*AS_RTC, *authorization, *limit, parts._replace(netloc=host).geturl()]


def _without_whip() -> list[str]:
    """Say why nothing can be sent by WHIP, if so: the ffmpeg program has it since its version 8, as far as it was built with it."""
    found = shutil.which("ffmpeg")
    if found is None:
        return ["needs the ffmpeg program, version 8 or later, which is not installed"]
    try:
        known = _whip_in(found).startswith("Muxer whip ")
    except TargetError as error:
        return [str(error)]
    return [] if known else [f"needs an ffmpeg program with the muxer whip, version 8 or later, and {found} has none"]


def _whip_in(program: str) -> str:
    """Ask an ffmpeg program for its help on the muxer; TargetError where it does not answer."""
    question = [program, "-hide_banner", "-h", "muxer=whip"]
    try:
        return subprocess.run(question, capture_output=True, text=True, timeout=ASK_SECONDS).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        raise TargetError(f"needs the ffmpeg program, and {program} cannot be asked what it can ({error})") from error


def _end(process: "subprocess.Popen[bytes]", listening: threading.Thread) -> str:
    """Let a program send what it still has, and say what went wrong with it, if anything."""
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
        listening.join(1)  # what the program may have started itself could hold the pipe open
