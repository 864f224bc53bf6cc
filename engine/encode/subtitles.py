"""Subtitles on their way into the log: a record with the track's header, then one for each packet."""

import base64
import io
from fractions import Fraction
from typing import Any

import av
from av import Packet
from av.stream import Stream
from av.subtitles.stream import SubtitleStream

from upres.engine.decode.reader import Reader
from upres.engine.segments.model import Log

from .fragment import LONGEST_TICKS, specimen

TEXT = {"mp4": "mov_text", "mov": "mov_text", "matroska": "subrip", "webm": "webvtt"}
"""What text of another kind becomes."""


class SubtitleTrack:
    """Packets of subtitles in, records beside the log's tracks out. labels: what the track is called, for its header."""

    def __init__(
        self, reader: Reader, stream: SubtitleStream, number: int, log: Log, container: str, labels: dict[str, Any]
    ) -> None:
        self.notes: list[str] = []
        self._number = number
        self._log = log
        self._time_base = stream.time_base or Fraction(1, 1000)
        self._origin = round(reader.origin / self._time_base)
        self._end = None if reader.cut.duration is None else reader.cut.duration / self._time_base
        self._known = sum(1 for extra in log.extras if extra.get("subtitle") == number)
        self._repairs = reader.repairs
        template = self._header(stream, container)
        if not any(extra.get("subtitles") == number for extra in log.extras):
            header = {"init": _encoded(specimen(template, container))}
            log.note({"subtitles": number, **header, "time_base": str(self._time_base), **labels})

    def push(self, packet: "Packet[Any]") -> None:
        """Take one packet."""
        if not packet.size or packet.pts is None:
            return
        at = packet.pts - self._origin
        if at < 0 or (self._end is not None and at >= self._end):
            return
        try:
            data, duration = self._content(packet)
        except (av.FFmpegError, ValueError):
            self._repairs.damaged += 1
            return
        if self._known:
            self._known -= 1
        elif data:
            duration = min(max(duration, 0), LONGEST_TICKS)
            self._log.note({"subtitle": self._number, "pts": at, "duration": duration, "data": _encoded(data)})

    def finish(self) -> None:
        """Do nothing: every packet is a record already."""

    def _header(self, stream: SubtitleStream, container: str) -> Stream:
        """Return a stream with the header of the records."""
        return stream

    def _content(self, packet: "Packet[Any]") -> tuple[bytes, int]:
        """Return a record's bytes and its duration in ticks; no bytes where it shows nothing."""
        return bytes(packet), packet.duration or 0


class ConvertedSubtitles(SubtitleTrack):
    """Text of one kind in, text that the target knows out, with what it can show of the styles."""

    def _header(self, stream: SubtitleStream, container: str) -> Stream:
        self._decoder = stream.codec_context
        self._decoder.open(strict=False)
        self._container = av.open(io.BytesIO(), "w", format=container)
        output = self._container.add_stream(TEXT[container])
        assert isinstance(output, SubtitleStream)
        output.codec_context.subtitle_header = self._decoder.subtitle_header
        output.codec_context.time_base = Fraction(1, 1000)
        self._container.start_encoding()
        self._encoder = output.codec_context
        return output

    def finish(self) -> None:
        """Release the encoder."""
        self._container.close()

    def _content(self, packet: "Packet[Any]") -> tuple[bytes, int]:
        subtitles = self._decoder.decode2(packet)
        if subtitles is None:
            return b"", 0
        encoded = self._encoder.encode_subtitle(subtitles)
        return bytes(encoded), packet.duration or round(Fraction(encoded.duration or 0, 1000) / self._time_base)


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()
