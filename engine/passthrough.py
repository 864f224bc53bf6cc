"""Tracks that are carried, not enlarged: audio packet by packet into the log, or as AAC; subtitles as records beside it."""

import base64
import io
from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
from av import AudioStream, Packet
from av.stream import Stream
from av.subtitles.stream import SubtitleStream

from .fragment import mux
from .log import Fragment, Log, Track
from .reader import Reader

PREROLL = Fraction(1, 10)  # seconds of audio kept before the start of a cut, hidden, so that its decoder is warm there
AAC_BITS_A_CHANNEL = 96_000
UNCARRIED = (
    "encoder",
    "major_brand",
    "minor_version",
    "compatible_brands",
    "handler_name",
    "vendor_id",
    "DURATION",
    "rotate",
)


def takes(container: str, codec: str) -> bool:
    """Whether a container format (libavformat's name) can hold packets of a codec."""
    with av.open(io.BytesIO(), "w", format=container) as output:
        return codec in output.supported_codecs


class Passthrough:
    """All carried tracks of a source on their way into a log.

    container: the format of the joined file, which decides what can be copied. warnings: what could not be carried as it is.
    """

    def __init__(self, reader: Reader, log: Log, *, container: str, segment_seconds: float) -> None:
        self.warnings: list[str] = []
        self._published: deque[Fragment] = deque()
        length = Fraction(segment_seconds)
        self._tracks: dict[int, AudioTrack | SubtitleTrack] = {}
        for number, stream in enumerate(reader.audio):
            codec = stream.codec_context.name
            copied = takes("mp4", codec) and takes(container, codec)
            if not copied:
                self.warnings.append(
                    f"audio track {number} ({codec}) cannot be copied into {container} and becomes AAC"
                )
            kind = CopiedAudio if copied else EncodedAudio
            self._tracks[stream.index] = kind(reader, stream, f"audio{number}", log, length, self._published)
        for number, subtitles in enumerate(reader.subtitles):
            codec = subtitles.codec_context.name
            if takes(container, codec):
                self._tracks[subtitles.index] = SubtitleTrack(reader, subtitles, number, log)
            else:
                self.warnings.append(
                    f"subtitle track {number} ({codec}) cannot be copied into {container} and is left out"
                )
        if not log.extras:
            log.note({"metadata": carried_metadata(reader.container.metadata), "chapters": _chapters(reader)})

    def push(self, packet: "Packet[Any]") -> None:
        """Take one packet of any track."""
        track = self._tracks.get(packet.stream.index)
        if track is not None:
            track.push(packet)

    def published(self) -> Iterator[Fragment]:
        """The fragments published since this was last asked; safe while another thread pushes packets."""
        while self._published:
            yield self._published.popleft()

    def finish(self) -> None:
        """Publish what is left."""
        for track in self._tracks.values():
            track.finish()


class AudioTrack:
    """One audio track: packets in, fragments of about one segment's length into the log."""

    def __init__(
        self, reader: Reader, stream: AudioStream, name: str, log: Log, length: Fraction, published: deque[Fragment]
    ) -> None:
        time_base = stream.time_base or Fraction(1, stream.codec_context.sample_rate)
        self._stream = stream
        self._name = name
        self._log = log
        self._time_base = time_base
        self._length = length
        self._published = published
        self._timeline = reader.timeline(stream, 1)
        self._origin = round(reader.origin / time_base)
        self._earliest = -round(PREROLL / time_base) if reader.cut.start else None
        self._end = None if reader.cut.duration is None else reader.cut.duration / time_base
        self._packets: list[Packet[Any]] = []
        self._known = sum(fragment.frames for fragment in log.fragments(name))
        self._number = len(log.fragments(name))
        self._first: int | None = log.tracks[name].start if name in log.tracks else None

    def push(self, packet: "Packet[Any]") -> None:
        """Take one packet of this track."""
        raise NotImplementedError

    def finish(self) -> None:
        """Publish what is left."""
        self._publish()

    def _place(self, pts: int | None, dts: int | None, duration: int) -> int | None:
        """Ticks from the origin; None where the packet lies outside the cut."""
        at = self._timeline.place(pts, dts) - self._origin
        too_early = self._earliest is not None and at + duration < self._earliest
        return None if too_early or (self._end is not None and at >= self._end) else at

    def _add(self, packet: "Packet[Any]", template: Stream, time_base: Fraction) -> None:
        if self._known:  # published before the run that is being resumed ended
            self._known -= 1
            return
        assert packet.pts is not None
        if self._packets and (packet.pts - (self._packets[0].pts or 0)) * time_base >= self._length:
            self._publish()
        self._template, self._ticks = template, time_base
        self._packets.append(packet)

    def _publish(self) -> None:
        if not self._packets:
            return
        packets, self._packets = self._packets, []
        first = packets[0].pts or 0
        start = self._first = min(0, first) if self._first is None else self._first
        last = packets[-1]
        end = (last.pts or 0) + (last.duration or 0)
        for packet in packets:
            packet.pts = packet.dts = (packet.pts or 0) - start
        self._number += 1
        init, body = mux(packets, self._template, self._number)
        self._log.add_track(
            Track(
                self._name,
                self._template.codec_context.name,
                self._ticks,
                start,
                init,
                self._stream.metadata.get("language"),
                int(self._stream.disposition),
            )
        )
        fragment = Fragment(self._name, self._number - 1, 0, first - start, end - first, len(packets))
        self._published.append(self._log.append(fragment, body))


class CopiedAudio(AudioTrack):
    """Audio whose packets both the log and the joined file can hold: not decoded, not changed."""

    def push(self, packet: "Packet[Any]") -> None:
        """Take one packet."""
        if not packet.size:
            return
        duration = packet.duration or 0
        at = self._place(packet.pts, packet.dts, duration)
        if at is not None:
            packet.pts = packet.dts = at
            self._add(packet, self._stream, self._time_base)


class EncodedAudio(AudioTrack):
    """Audio of another codec, decoded and encoded as AAC. The encoder's priming keeps its place before the first sample."""

    def __init__(
        self, reader: Reader, stream: AudioStream, name: str, log: Log, length: Fraction, published: deque[Fragment]
    ) -> None:
        super().__init__(reader, stream, name, log, length, published)
        self._repairs = reader.repairs
        rate = stream.codec_context.sample_rate
        self._rate = (
            rate
            if rate in (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)
            else 48000
        )
        self._container = av.open(io.BytesIO(), "w", format="mp4")
        output = self._container.add_stream("aac", rate=self._rate, layout=stream.codec_context.layout)
        assert isinstance(output, AudioStream)
        output.bit_rate = AAC_BITS_A_CHANNEL * stream.codec_context.channels
        output.codec_context.time_base = Fraction(1, self._rate)
        self._container.start_encoding()
        self._output = output

    def push(self, packet: "Packet[Any]") -> None:
        """Take one packet."""
        if not packet.size:
            return
        try:
            frames = self._stream.decode(packet)
        except av.FFmpegError:
            self._repairs.damaged += 1
            return
        for frame in frames:
            at = self._place(frame.pts, frame.dts, 0)
            if at is not None:
                frame.pts, frame.time_base = at, self._time_base
                self._take(frame)

    def finish(self) -> None:
        """Encode and publish what is left, and close the encoder."""
        self._take(None)
        super().finish()
        self._container.close()

    def _take(self, frame: av.AudioFrame | None) -> None:
        for packet in self._output.encode(frame):
            self._add(packet, self._output, Fraction(1, self._rate))


class SubtitleTrack:
    """One subtitle track: a record with its header, then one for each packet."""

    def __init__(self, reader: Reader, stream: SubtitleStream, number: int, log: Log) -> None:
        self._number = number
        self._log = log
        self._time_base = stream.time_base or Fraction(1, 1000)
        self._origin = round(reader.origin / self._time_base)
        self._end = None if reader.cut.duration is None else reader.cut.duration / self._time_base
        self._known = sum(1 for extra in log.extras if extra.get("subtitle") == number)
        if not any(extra.get("subtitles") == number for extra in log.extras):
            log.note(
                {
                    "subtitles": number,
                    "init": _encoded(_header(stream)),
                    "time_base": str(self._time_base),
                    **_labels(stream),
                }
            )

    def push(self, packet: "Packet[Any]") -> None:
        """Take one packet."""
        if not packet.size or packet.pts is None:
            return
        at = packet.pts - self._origin
        if at < 0 or (self._end is not None and at >= self._end):
            return
        if self._known:
            self._known -= 1
            return
        data = _encoded(bytes(packet))
        self._log.note({"subtitle": self._number, "pts": at, "duration": packet.duration or 0, "data": data})

    def finish(self) -> None:
        """Nothing is left: every packet is a record already."""


def carried_metadata(metadata: dict[str, str]) -> dict[str, str]:
    """What of a container's or a stream's metadata still holds for the result."""
    return {key: value for key, value in metadata.items() if key not in UNCARRIED and not key.startswith("_STATISTICS")}


def _header(stream: SubtitleStream) -> bytes:
    """A file with this stream and no packet: the way its codec's private data is kept."""
    file = io.BytesIO()
    container = "matroska" if takes("matroska", stream.codec_context.name) else "mp4"
    with av.open(file, "w", format=container) as output:
        output.add_stream_from_template(stream)
        output.start_encoding()
    return file.getvalue()


def _labels(stream: Stream) -> dict[str, Any]:
    return {"metadata": carried_metadata(stream.metadata), "disposition": int(stream.disposition)}


def _chapters(reader: Reader) -> list[dict[str, Any]]:
    """Chapters as seconds from the origin, those outside the cut left out."""
    chapters = []
    for chapter in reader.container.chapters():
        time_base = chapter["time_base"] or Fraction(1)
        start, end = (chapter[edge] * time_base - reader.origin for edge in ("start", "end"))
        if end > 0 and (reader.cut.duration is None or start < reader.cut.duration):
            span = {"start": float(max(start, Fraction(0))), "end": float(end)}
            chapters.append({"id": chapter["id"], **span, "metadata": dict(chapter["metadata"])})
    return chapters


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()
