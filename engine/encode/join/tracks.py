"""Tracks of a log as sources of packets for a muxer."""

import base64
import io
from collections.abc import Iterable, Iterator
from fractions import Fraction
from math import lcm
from typing import TYPE_CHECKING, Any

import av
from av import Packet, VideoStream
from av.container import OutputContainer
from av.stream import Disposition, Stream

from upres.engine.core.errors import LogError
from upres.engine.encode.codec_delay import delayed, hide_end
from upres.engine.encode.codecs import MATROSKA
from upres.engine.encode.fragment import LONGEST_TICKS, add_copy
from upres.engine.segments.model import Fragment, Log, Track

if TYPE_CHECKING:
    from av.container.core import Chapter

# Prefixes of tags with which phones store date and place.
CAMERA_KEYS = ("com.apple.quicktime.", "com.android.", "location")

Timed = tuple[Fraction, int, "Packet[Any]"]


def ordered(log: Log) -> list[Track]:
    """Return the tracks of a log in the order in which files list them: video first."""
    return sorted(log.tracks.values(), key=lambda track: (track.name != "video", track.name))


def label(log: Log, output: OutputContainer) -> None:
    """Add the tags, chapters and attachments of a log to a file."""
    for extra in log.extras:
        if "metadata" in extra and "chapters" in extra:
            output.metadata.update(extra["metadata"])
            output.set_chapters([_chapter(chapter) for chapter in extra["chapters"]])
        if "attachment" in extra and output.format.name == "matroska":
            output.add_attachment(extra["attachment"], extra["mimetype"], base64.b64decode(extra["data"]))


def _chapter(chapter: dict[str, Any]) -> "Chapter":
    start, end = round(chapter["start"] * 1000), round(chapter["end"] * 1000)
    return {
        "id": chapter["id"],
        "start": start,
        "end": end,
        "time_base": Fraction(1, 1000),
        "metadata": chapter["metadata"],
    }


def movflags(log: Log, *flags: str) -> str:
    """Return the flags for MP4's and QuickTime's muxer, including those for the log's tags."""
    names = [name for extra in log.extras for name in extra.get("metadata", ())]
    return "+".join((*flags, *tag_flags(names)))


def tag_flags(names: Iterable[str]) -> tuple[str, ...]:
    """Return muxer flags so that MP4 or QuickTime can store arbitrary keys, if the tags are those of a camera; otherwise none."""
    return ("use_metadata_tags",) if any(name.startswith(CAMERA_KEYS) for name in names) else ()


def movie_timescale(tracks: list[Track]) -> str:
    """Return the time scale of an MP4's movie header, in which the delay of later tracks is stored."""
    clock = lcm(*(track.time_base.denominator for track in tracks))
    return str(clock if clock < 1 << 31 else tracks[0].time_base.denominator)


class LogTrack:
    """A track of the log, read with libavformat.

    fragments: those to read, by default all that the log has so far. `continued` returns the same track with later fragments.
    """

    def __init__(self, log: Log, track: Track, container: str, fragments: list[Fragment] | None = None) -> None:
        self._log = log
        self._track = track
        self._fragments = log.fragments(track.name) if fragments is None else fragments
        self._expected = sum(fragment.frames for fragment in self._fragments)
        self._labels: dict[str, Any] = next(
            (extra["tracks"].get(track.name, {}) for extra in log.extras if "tracks" in extra), {}
        )
        self._matroska = container in MATROSKA
        self._container = container
        self._input = av.open(_TrackBytes(log, track, self._fragments), mode="r", format=track.container)
        self._stream = self._input.streams[0]

    def add_to(self, output: OutputContainer) -> None:
        """Add the track to a file."""
        hides = self._matroska and self._track.start < 0 and self._stream.type == "audio"
        template = delayed(self._stream, -self._track.start * self._track.time_base) if hides else self._stream
        self._output = add_copy(output, template)
        self._output.time_base = self._stream.time_base
        if isinstance(self._output, VideoStream) and isinstance(self._stream, VideoStream):
            self._output.time_base = (self._stream.time_base or self._track.time_base) * self._coarser()
            self._output.codec_context.framerate = self._rate()
            self._output.codec_context.sample_aspect_ratio = self._stream.sample_aspect_ratio or Fraction(1)
        self._output.disposition = Disposition(self._track.disposition)
        self._output.metadata.update(self._labels.get("metadata", {}))
        if self._track.language:
            self._output.metadata["language"] = self._track.language

    @property
    def index(self) -> int:
        """Index of the track in the file."""
        return self._output.index

    def continued(self, fragments: list[Fragment]) -> "LogTrack":
        """Return the same track of the same file with other fragments."""
        track = LogTrack(self._log, self._track, self._container, fragments)
        track._output = self._output
        return track

    def _coarser(self) -> int:
        """Return the factor by which the time base is coarsened, so that the longest frame's duration fits the file."""
        longest = max((fragment.duration for fragment in self._fragments), default=0)
        return 1 + longest // LONGEST_TICKS

    def _rate(self) -> Fraction:
        """Return the average frame rate, for Matroska's header."""
        ticks = sum(fragment.duration for fragment in self._fragments)
        return (self._expected / (max(1, ticks) * self._track.time_base)).limit_denominator(1001)

    def packets(self, *, whole: bool = True) -> Iterator[Timed]:
        """Yield packets with the track's start added to their times.

        whole: the fragments are all of the track, so that its end is trimmed.
        Raises LogError if the number of packets differs from the number that the log records.
        """
        time_base = self._stream.time_base or Fraction(1)
        shift = round(self._track.start * self._track.time_base / time_base)
        count = 0
        for packet in self._input.demux(self._stream):
            if packet.pts is None or packet.dts is None:
                continue
            count += 1
            packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
            packet.stream = self._output
            if whole and count == self._expected:
                self.trim(packet)
            yield packet.dts * time_base, self._output.index, packet
        if count != self._expected:
            raise LogError(f"track {self._track.name} has {count} packets, but its log records {self._expected}")

    def opening(self) -> "Packet[Any]":
        """Return the first packet, with the time at which the log's times begin."""
        time_base = self._stream.time_base or Fraction(1)
        _, _, packet = next(self.packets(whole=False))
        packet.pts = packet.dts = round(self._track.start * self._track.time_base / time_base)
        return packet

    def trim(self, last: "Packet[Any]") -> None:
        """Hide the samples that the source hides at its end. In MP4 the duration of the last packet already does that."""
        samples = next((extra["samples"] for extra in self._log.extras if extra.get("trim") == self._track.name), 0)
        if self._matroska and samples:
            last.duration = (last.duration or 0) + samples
            hide_end(last, samples)

    def close(self) -> None:
        """Close the container that reads the log."""
        self._input.close()


class LogSubtitles:
    """A subtitle track, read from the log's records. end: end of the video in seconds, at which subtitles end; None if unknown."""

    def __init__(self, log: Log, header: dict[str, Any], end: Fraction | None) -> None:
        self._header = header
        self._log = log
        self._end = end
        self._before = -1
        self._read = 0
        self._input = av.open(io.BytesIO(base64.b64decode(header["init"])), mode="r")
        self._template: Stream = self._input.streams[0]

    def add_to(self, output: OutputContainer) -> None:
        """Add the track to a file."""
        self._output = output.add_stream_from_template(self._template)
        self._edited = output.format.name not in MATROSKA  # has an edit list, which ends with the last subtitle
        self._output.metadata.update(self._header["metadata"])
        self._output.disposition = Disposition(self._header["disposition"])

    def packets(self) -> Iterator[Timed]:
        """Yield the packets of the records added since the last call."""
        every = [extra for extra in self._log.extras if extra.get("subtitle") == self._header["subtitles"]]
        records, self._read = every[self._read :], len(every)
        time_base = Fraction(self._header["time_base"])
        records.sort(key=lambda record: int(record["pts"]))
        for record in records:
            at = self._before = max(record["pts"], self._before + 1)
            packet: Packet[Any] = Packet(base64.b64decode(record["data"]))
            packet.pts = packet.dts = at
            packet.duration = record["duration"]
            if self._end is not None:
                rest = max(1, round(self._end / time_base) - at)
                until_end = self._edited and not packet.duration and record is records[-1]
                packet.duration = rest if until_end else min(packet.duration, rest)
            packet.time_base, packet.stream = time_base, self._output
            packet.is_keyframe = True
            yield at * time_base, self._output.index, packet

    def close(self) -> None:
        """Close the container that holds the header."""
        self._input.close()


class _TrackBytes:
    """A track as a byte stream: its init section, then its fragments, whose checksums are verified."""

    def __init__(self, log: Log, track: Track, fragments: list[Fragment]) -> None:
        self._log = log
        self._remaining = fragments[::-1]
        self._chunk = io.BytesIO(track.init)

    def read(self, size: int = 65536, /) -> bytes:
        while not (data := self._chunk.read(size)) and self._remaining:
            self._chunk = io.BytesIO(self._log.read(self._remaining.pop()))
        return data
