"""One file from a log: packets copied, nothing decoded; written beside the target and renamed once complete."""

import base64
import heapq
import io
import os
from collections.abc import Iterator
from fractions import Fraction
from math import lcm
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
from av import Packet, VideoStream
from av.container import OutputContainer
from av.stream import Disposition, Stream

from upres.engine.core.errors import EncoderError, LogError, TargetError
from upres.engine.segments.folder import sync_folder
from upres.engine.segments.model import Fragment, Log, Track

from .codec_delay import delayed, hide_end
from .fragment import LONGEST_TICKS, add_copy

if TYPE_CHECKING:
    from av.container.core import Chapter

CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}


def container_for(path: Path) -> str:
    """Return the container format of a file name; TargetError where none is known for it."""
    if path.suffix.lower() not in CONTAINERS:
        still = "; one frame goes into a name that ends in .png with `still` 0" * (path.suffix.lower() in PICTURES)
        raise TargetError(f"{path}: the name must end in {', '.join(CONTAINERS)}{still}")
    return CONTAINERS[path.suffix.lower()]


def part_of(target: Path) -> Path:
    """Return where a file is written until it is complete."""
    return target.with_name(f".{target.name}.{os.getpid()}.part")


def join(log: Log, target: Path, container: str) -> None:
    """Write the joined file. It appears under its name only once it is complete and on disk.

    Raises TargetError where it cannot be written, EncoderError where the container refuses it, LogError where the log is
    damaged or has no frame.
    """
    if not log.fragments("video"):
        raise LogError("the log holds no frame yet, so there is nothing to join")
    part = part_of(target)
    try:
        _write(log, part, container)
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(target)
        sync_folder(target.parent)
    except av.ArgumentError as error:
        raise EncoderError(f"{target}: {container} refuses what was made ({error.strerror})") from error
    except (OSError, av.FFmpegError) as error:
        raise TargetError(f"{target}: cannot be written ({error.strerror or error})") from error
    finally:
        part.unlink(missing_ok=True)


def _write(log: Log, path: Path, container: str) -> None:
    tracks = _ordered(log)
    options = _options(tracks, container)
    sources: list[_LogTrack | _LogSubtitles] = [_LogTrack(log, track, container) for track in tracks]
    sources += [_LogSubtitles(log, extra, _end(log)) for extra in log.extras if "subtitles" in extra]
    try:
        with av.open(str(path), "w", format=container, options=options) as output:
            for source in sources:
                source.add_to(output)
            _label(log, output)
            for extra in log.extras:
                if "attachment" in extra and container == "matroska":
                    output.add_attachment(extra["attachment"], extra["mimetype"], base64.b64decode(extra["data"]))
            for _, _, packet in heapq.merge(*(source.packets() for source in sources)):
                output.mux(packet)
    finally:
        for source in sources:
            source.close()


def _end(log: Log) -> Fraction:
    track, last = log.tracks["video"], log.fragments("video")[-1]
    return (track.start + last.pts + last.duration) * track.time_base


def _ordered(log: Log) -> list[Track]:
    return sorted(log.tracks.values(), key=lambda track: (track.name != "video", track.name))


def _options(tracks: list[Track], container: str) -> dict[str, str]:
    options = {"fflags": "+bitexact"}  # nothing random, so that equal logs give equal files
    if container == "matroska":
        return options
    # A track that starts later than another is delayed in ticks of the movie's clock, by default a coarse millisecond.
    clock = lcm(*(track.time_base.denominator for track in tracks))
    clock = clock if clock < 1 << 31 else tracks[0].time_base.denominator
    return {**options, "movflags": "+faststart", "movie_timescale": str(clock)}


def _label(log: Log, output: OutputContainer) -> None:
    for extra in log.extras:
        if "metadata" in extra and "chapters" in extra:
            output.metadata.update(extra["metadata"])
            output.set_chapters([_chapter(chapter) for chapter in extra["chapters"]])


def _chapter(chapter: dict[str, Any]) -> "Chapter":
    start, end = round(chapter["start"] * 1000), round(chapter["end"] * 1000)
    return {
        "id": chapter["id"],
        "start": start,
        "end": end,
        "time_base": Fraction(1, 1000),
        "metadata": chapter["metadata"],
    }


Timed = tuple[Fraction, int, "Packet[Any]"]


class _LogTrack:
    """One track of the log, read back through libavformat."""

    def __init__(self, log: Log, track: Track, container: str) -> None:
        self._log = log
        self._track = track
        self._expected = sum(fragment.frames for fragment in log.fragments(track.name))
        self._labels: dict[str, Any] = next(
            (extra["tracks"].get(track.name, {}) for extra in log.extras if "tracks" in extra), {}
        )
        self._trim = next((extra["samples"] for extra in log.extras if extra.get("trim") == track.name), 0)
        self._matroska = container == "matroska"
        self._input = av.open(_TrackBytes(log, track), mode="r", format=track.container)
        self._stream = self._input.streams[0]

    def add_to(self, output: OutputContainer) -> None:
        hides = self._matroska and self._track.start < 0 and self._stream.type == "audio"
        template = delayed(self._stream, -self._track.start * self._track.time_base) if hides else self._stream
        self._output = add_copy(output, template)
        self._output.time_base = self._stream.time_base
        if isinstance(self._output, VideoStream):
            self._output.time_base = (self._stream.time_base or self._track.time_base) * self._coarser()
            self._output.codec_context.framerate = self._rate()
        self._output.disposition = Disposition(self._track.disposition)
        self._output.metadata.update(self._labels.get("metadata", {}))
        if self._track.language:
            self._output.metadata["language"] = self._track.language

    def _coarser(self) -> int:
        """Return how many ticks become one, so that the longest frame has a duration that a file can say."""
        fragments = self._log.fragments(self._track.name)
        longest = max((fragment.duration for fragment in fragments), default=0)
        return 1 + longest // LONGEST_TICKS

    def _rate(self) -> Fraction:
        """Return the average frame rate, for Matroska's header."""
        ticks = sum(fragment.duration for fragment in self._log.fragments(self._track.name))
        return (self._expected / (max(1, ticks) * self._track.time_base)).limit_denominator(1001)

    def packets(self) -> Iterator[Timed]:
        """Yield packets with the track's start added back; LogError where there are fewer or more than the log counts."""
        time_base = self._stream.time_base or Fraction(1)
        shift = round(self._track.start * self._track.time_base / time_base)
        count = 0
        for packet in self._input.demux(self._stream):
            if packet.pts is None or packet.dts is None:
                continue
            count += 1
            packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
            packet.stream = self._output
            if self._matroska and self._trim and count == self._expected:
                packet.duration = (packet.duration or 0) + self._trim
                hide_end(packet, self._trim)
            yield packet.dts * time_base, self._output.index, packet
        if count != self._expected:
            raise LogError(f"track {self._track.name} gave {count} packets, its log counts {self._expected}")

    def close(self) -> None:
        self._input.close()


class _LogSubtitles:
    """One subtitle track, from its records. end: of the video, in seconds, which no subtitle outlasts."""

    def __init__(self, log: Log, header: dict[str, Any], end: Fraction) -> None:
        self._header = header
        self._end = end
        self._records = [extra for extra in log.extras if extra.get("subtitle") == header["subtitles"]]
        self._input = av.open(io.BytesIO(base64.b64decode(header["init"])), mode="r")
        self._template: Stream = self._input.streams[0]

    def add_to(self, output: OutputContainer) -> None:
        self._output = output.add_stream_from_template(self._template)
        self._output.metadata.update(self._header["metadata"])
        self._output.disposition = Disposition(self._header["disposition"])

    def packets(self) -> Iterator[Timed]:
        time_base, before = Fraction(self._header["time_base"]), -1
        for record in sorted(self._records, key=lambda record: int(record["pts"])):
            at = before = max(record["pts"], before + 1)
            packet: Packet[Any] = Packet(base64.b64decode(record["data"]))
            packet.pts = packet.dts = at
            longest = max(1, round(self._end / time_base) - at)
            packet.duration = min(record["duration"], longest)
            packet.time_base, packet.stream = time_base, self._output
            packet.is_keyframe = True
            yield at * time_base, self._output.index, packet

    def close(self) -> None:
        self._input.close()


class _TrackBytes:
    """A track as a stream of bytes: its init section, then its fragments, each checked as it is read."""

    def __init__(self, log: Log, track: Track) -> None:
        self._log = log
        self._left: list[Fragment] = log.fragments(track.name)[::-1]
        self._chunk = io.BytesIO(track.init)

    def read(self, size: int = 65536, /) -> bytes:
        while not (data := self._chunk.read(size)) and self._left:
            self._chunk = io.BytesIO(self._log.read(self._left.pop()))
        return data
