"""Subtitles on their way into the log: a record with the track's header, then one for each packet."""

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
        try:
            data, pts, duration = self._content(packet, packet.pts)
        except (av.FFmpegError, ValueError):
            self._repairs.damaged += 1
            return
        if data:
            self._keep(data, pts - self._origin, duration)

    def _keep(self, data: bytes, at: int, duration: int) -> None:
        """Make a record of what is shown at a tick from the origin, unless the log has it, or it lies outside the cut."""
        if at < 0:  # what is shown when the result begins stays until its end
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
        """Do nothing: every packet is a record already."""

    def _header(self, stream: SubtitleStream, container: str) -> Stream:
        """Return a stream with the header of the records."""
        return stream

    def _content(self, packet: "Packet[Any]", pts: int) -> tuple[bytes, int, int]:
        """Return a record's bytes, its time and its duration in the track's ticks; no bytes where it shows nothing."""
        return bytes(packet), pts, packet.duration or 0


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
        """Take what the decoder held back, and release the encoder."""
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
        if pts is None or abs(start - pts) > 1:  # captions are known once they have been erased
            return bytes(encoded), start, shown
        return bytes(encoded), pts, packet.duration or shown


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()
