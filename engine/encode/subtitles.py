"""Subtitles in the log: a record with the track's header, then one record for each packet."""

import base64
import io
from contextlib import suppress
from fractions import Fraction
from typing import Any

import av
from av import Packet
from av.stream import Stream
from av.subtitles.stream import SubtitleStream

from upres.engine.decode.reader import Reader
from upres.engine.segments.model import Log

from .fragment import LONGEST_TICKS, header_file

TEXT = {"mp4": "mov_text", "mov": "mov_text", "matroska": "subrip", "webm": "webvtt"}
"""The codec to which text subtitles are converted, by container."""


class SubtitleTrack:
    """Writes subtitle packets as records to the log. labels: metadata and disposition of the track, stored with its header."""

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
            header = {"init": _encoded(header_file(template, container))}
            log.note({"subtitles": number, **header, "time_base": str(self._time_base), **labels})

    def push(self, packet: "Packet[Any]") -> None:
        """Record one packet."""
        if not packet.size or packet.pts is None:
            return
        try:
            data, pts, duration = self._content(packet, packet.pts)
        except (av.FFmpegError, ValueError):
            self._repairs.damaged += 1
            return
        if data:
            self._keep(data, pts - self._origin, duration)

    def _keep(self, data: bytes, at: int, duration: int) -> None:
        """Write a record unless the log has it already or it lies outside the cut. at: ticks from the origin."""
        if at < 0:  # a subtitle that is visible when the result begins keeps its end
            at, duration = 0, duration + at
            if duration <= 0:
                return
        if self._end is not None and at >= self._end:
            return
        if self._known:
            self._known -= 1
            return
        duration = min(max(duration, 0), LONGEST_TICKS)
        self._log.note({"subtitle": self._number, "pts": at, "duration": duration, "data": _encoded(data)})

    def finish(self) -> None:
        """Do nothing: every packet has been recorded."""

    def _header(self, stream: SubtitleStream, container: str) -> Stream:
        """Return a stream with the header that belongs to the records."""
        return stream

    def _content(self, packet: "Packet[Any]", pts: int) -> tuple[bytes, int, int]:
        """Return a record's bytes, and its time and duration in the track's ticks; empty bytes if there is nothing to show."""
        return bytes(packet), pts, packet.duration or 0


class ConvertedSubtitles(SubtitleTrack):
    """Converts text subtitles to the codec of the target's container, with the styles that it supports."""

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
        """Flush the decoder, and release the encoder."""
        with suppress(av.FFmpegError, ValueError):
            data, pts, duration = self._content(Packet(), None)
            if data:
                self._keep(data, pts - self._origin, duration)
        self._container.close()

    def _content(self, packet: "Packet[Any]", pts: int | None) -> tuple[bytes, int, int]:
        subtitles = self._decoder.decode2(packet)
        if subtitles is None:
            return b"", 0, 0
        encoded = self._encoder.encode_subtitle(subtitles)
        shown = round(Fraction(encoded.duration or 0, 1000) / self._time_base)
        start = round(Fraction(subtitles.pts, av.time_base) / self._time_base)
        # Closed captions are decoded only once they are erased, at a later packet.
        if pts is None or abs(start - pts) > 1:
            return bytes(encoded), start, shown
        return bytes(encoded), pts, packet.duration or shown


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()
