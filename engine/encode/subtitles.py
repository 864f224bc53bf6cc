"""One subtitle track on its way into the log: a record with its header, then one for each packet."""

import base64
from fractions import Fraction
from typing import Any

from av import Packet
from av.subtitles.stream import SubtitleStream

from upres.engine.decode.reader import Reader
from upres.engine.segments.model import Log

from .fragment import specimen


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
        if not any(extra.get("subtitles") == number for extra in log.extras):
            header = {"init": _encoded(specimen(stream, container)), "time_base": str(self._time_base)}
            log.note({"subtitles": number, **header, **labels})

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


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()
