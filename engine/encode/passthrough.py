"""Items of a source that are carried to the log: audio as tracks; subtitles, tags, chapters and attachments as records."""

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from typing import Any

import av
from av import AudioStream, Packet
from av.stream import Stream
from av.subtitles.stream import SubtitleStream

from upres.engine.core.errors import SourceError, reason
from upres.engine.core.text import printable
from upres.engine.decode.inventory import TIMECODE, Item, Kind
from upres.engine.decode.reader import Reader
from upres.engine.encode.audio.codecs import codec_in
from upres.engine.encode.audio.copied import CopiedAudio
from upres.engine.encode.audio.encoded import EncodedAudio
from upres.engine.encode.audio.track import AudioTrack, Route

from .carriage import Fate, attachment_data, can_hold, decide, lost_marks_note
from .codecs import MATROSKA
from .publisher import Publisher
from .subtitles import ConvertedSubtitles, SubtitleTrack

SKIPPED = ("opus",)  # codecs whose samples before 0 players skip in Matroska; with all others they are played
UNCARRIED = (
    "encoder",
    "major_brand",
    "minor_version",
    "compatible_brands",
    "handler_name",
    "vendor_id",
    "duration",
    "rotate",
)
"""Tags that are not carried, in lower case; libavformat reports Matroska's in upper case and MP4's in lower case."""


class Passthrough:
    """Writes all items of a source except its video to a log.

    container: format of the joined file, which determines what can be copied. seconds: of audio per fragment.
    streamed: the joined file is written while it is produced. rate: its frames per second. library: FFmpeg's name of its video
    encoder.
    warnings: messages about items that cannot be carried unchanged. notes: further messages for the user, complete after `finish`.
    """

    def __init__(
        self,
        reader: Reader,
        publisher: Publisher,
        *,
        container: str,
        seconds: float,
        streamed: bool,
        rate: Fraction,
        library: str,
    ) -> None:
        later = reader.cut.start > 0
        decisions = [
            decide(item, container, reader.channels, rate, library=library, streamed=streamed, later=later)
            for item in reader.inventory
        ]
        notes = [note for decision in decisions for note in (decision.note, lost_marks_note(decision, container))]
        self.warnings = [printable(note) for note in notes if note]  # they contain titles and names from the source
        self._reader, self._publisher, self._container = reader, publisher, container
        self._length = Fraction(seconds).limit_denominator(1000)
        self._tracks: dict[int, AudioTrack | SubtitleTrack] = {}
        labels = {"video": _labels(reader.video, later=later)}
        fates = {decision.item.stream: decision.fate for decision in decisions if decision.item.stream}
        for number, stream in enumerate(reader.audio):
            if self._add_audio(number, stream, copied=fates[stream] is Fate.CARRIED):
                labels[f"audio{number}"] = _labels(stream)
        for number, subtitles in enumerate(reader.subtitles):
            if fates[subtitles] is not Fate.LEFT_OUT:
                kind = SubtitleTrack if fates[subtitles] is Fate.CARRIED else ConvertedSubtitles
                self._add_subtitles(number, subtitles, kind)
        if not any("chapters" in extra for extra in publisher.log.extras):
            metadata = carried_metadata(reader.container.metadata, later=later)
            publisher.log.note({"metadata": metadata, "chapters": _chapters(reader), "tracks": labels})
            for decision in decisions:
                if decision.item.kind is Kind.ATTACHMENT and decision.fate is Fate.CARRIED:
                    publisher.log.note(_attachment(decision.item))

    @property
    def notes(self) -> list[str]:
        """Messages for the user that were found while reading."""
        return [note for track in self._tracks.values() for note in track.notes]

    def push(self, packet: "Packet[Any]") -> None:
        """Process one packet of any track. Raises SourceError if it can be neither carried nor left out."""
        track = self._tracks.get(packet.stream.index)
        if track is not None:
            with _as_source_error(packet.stream):
                track.push(packet)

    def finish(self) -> None:
        """Publish the remaining packets of all tracks."""
        for index, track in self._tracks.items():
            with _as_source_error(self._reader.container.streams[index]):
                track.finish()

    def _add_audio(self, number: int, stream: AudioStream, *, copied: bool) -> bool:
        """Add an audio track; return whether that was possible."""
        channels, codec = self._reader.channels[stream.index], stream.codec_context.name
        route = Route(self._reader, stream, f"audio{number}", self._publisher, self._length)
        if self._container in MATROSKA and codec not in SKIPPED:
            route = replace(route, preroll=Fraction(0))
        try:
            if copied:
                holder = "mp4" if can_hold("mp4", stream) else self._container
                self._tracks[stream.index] = CopiedAudio(replace(route, container=holder), channels)
            else:
                self._tracks[stream.index] = EncodedAudio(route, channels, codec_in(self._container))
        except (av.FFmpegError, ValueError) as error:
            self.warnings.append(
                f"audio, track {stream.index} ({codec}) is left out: it cannot be decoded ({reason(error)})"
            )
            return False
        return True

    def _add_subtitles(self, number: int, stream: SubtitleStream, kind: type[SubtitleTrack]) -> None:
        log, labels = self._publisher.log, _labels(stream)
        try:
            self._tracks[stream.index] = kind(self._reader, stream, number, log, self._container, labels)
        except (av.FFmpegError, ValueError) as error:
            codec = stream.codec_context.name
            self.warnings.append(f"subtitles, track {stream.index} ({codec}) is left out: {reason(error)}")


@contextmanager
def _as_source_error(stream: Stream) -> Iterator[None]:
    try:
        yield
    except (av.FFmpegError, OverflowError, ValueError) as error:
        raise SourceError(
            f"track {stream.index} ({stream.type}) of the source cannot be carried ({reason(error)})"
        ) from error


def carried_metadata(metadata: dict[str, str], *, later: bool) -> dict[str, str]:
    """Return the tags of a container or stream that also apply to the result. later: it begins later than the source."""
    dropped = (*UNCARRIED, TIMECODE) if later else UNCARRIED
    return {
        key: value
        for key, value in metadata.items()
        if key.lower() not in dropped and not key.startswith("_STATISTICS")
    }


def _labels(stream: Stream, *, later: bool = False) -> dict[str, Any]:
    metadata = carried_metadata(stream.metadata, later=later)
    if (name := metadata.pop("name", None)) is not None:  # MP4's demuxer reports a track's title under this name
        metadata.setdefault("title", name)
    return {"metadata": metadata, "disposition": int(stream.disposition)}


def _attachment(item: Item) -> dict[str, Any]:
    metadata = item.stream.metadata if item.stream else {}
    name, kind = metadata.get("filename", "attachment"), metadata.get("mimetype", "application/octet-stream")
    return {"attachment": name, "mimetype": kind, "data": base64.b64encode(attachment_data(item.stream)).decode()}


def _chapters(reader: Reader) -> list[dict[str, Any]]:
    """Return the chapters inside the cut, with times in seconds from the origin."""
    chapters = []
    for chapter in reader.container.chapters():
        time_base = chapter["time_base"] or Fraction(1)
        start, end = (chapter[edge] * time_base - reader.origin for edge in ("start", "end"))
        if end > 0 and (reader.cut.duration is None or start < reader.cut.duration):
            end = end if reader.cut.duration is None else min(end, reader.cut.duration)
            span = {"start": float(max(start, Fraction(0))), "end": float(end)}
            chapters.append({"id": chapter["id"], **span, "metadata": dict(chapter["metadata"])})
    return chapters
