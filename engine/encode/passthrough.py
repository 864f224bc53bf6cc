"""Tracks that are carried, not upscaled: sound into the log as tracks of its own, subtitles and labels as records beside it."""

import base64
from dataclasses import replace
from fractions import Fraction
from typing import Any

from av import Packet
from av.stream import Stream
from av.subtitles.stream import SubtitleStream

from upres.engine.decode.reader import Reader
from upres.engine.segments.model import Log

from .audio import AudioTrack, CopiedAudio, EncodedAudio, Route
from .carriage import Fate, decide, takes
from .fragment import specimen
from .publisher import Publisher

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


class Passthrough:
    """All carried tracks of a source on their way into a log.

    container: the format of the joined file, which decides what can be copied.
    seconds: of sound in a fragment. warnings: what could not be carried as it is.
    """

    def __init__(self, reader: Reader, publisher: Publisher, *, container: str, seconds: float) -> None:
        decisions = [decide(item, container) for item in reader.inventory]
        self.warnings = [decision.note for decision in decisions if decision.note]
        length = Fraction(seconds).limit_denominator(1000)
        log = publisher.log
        self._tracks: dict[int, AudioTrack | SubtitleTrack] = {}
        labels = {"video": _labels(reader.video)}
        fates = {decision.item.stream: decision.fate for decision in decisions if decision.item.stream}
        for number, stream in enumerate(reader.audio):
            name = f"audio{number}"
            route = Route(reader, stream, name, publisher, length)
            if fates[stream] is Fate.CARRIED:
                route = route if takes("mp4", stream) else replace(route, container=container)
                self._tracks[stream.index] = CopiedAudio(route)
            else:
                self._tracks[stream.index] = EncodedAudio(route)
            labels[name] = _labels(stream)
        for number, subtitles in enumerate(reader.subtitles):
            if fates[subtitles] is Fate.CARRIED:
                self._tracks[subtitles.index] = SubtitleTrack(reader, subtitles, number, log, container)
        if not any("chapters" in extra for extra in log.extras):
            metadata = carried_metadata(reader.container.metadata)
            log.note({"metadata": metadata, "chapters": _chapters(reader), "tracks": labels})

    def push(self, packet: "Packet[Any]") -> None:
        """Take one packet of any track."""
        track = self._tracks.get(packet.stream.index)
        if track is not None:
            track.push(packet)

    def finish(self) -> None:
        """Publish what is left."""
        for track in self._tracks.values():
            track.finish()


class SubtitleTrack:
    """One subtitle track: a record with its header, then one for each packet."""

    def __init__(self, reader: Reader, stream: SubtitleStream, number: int, log: Log, container: str) -> None:
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
                    "init": _encoded(specimen(stream, container)),
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
        """Do nothing: every packet is a record already."""


def carried_metadata(metadata: dict[str, str]) -> dict[str, str]:
    """Return those of a container's or a stream's tags that still hold for the result."""
    return {key: value for key, value in metadata.items() if key not in UNCARRIED and not key.startswith("_STATISTICS")}


def _labels(stream: Stream) -> dict[str, Any]:
    return {"metadata": carried_metadata(stream.metadata), "disposition": int(stream.disposition)}


def _chapters(reader: Reader) -> list[dict[str, Any]]:
    """Return chapters as seconds from the origin, without those outside the cut."""
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
