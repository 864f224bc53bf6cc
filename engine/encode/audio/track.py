"""Base class of an audio track of the log. Its subclasses `CopiedAudio` and `EncodedAudio` produce the packets.

Times in the log are counted in samples from the reader's origin. Samples that a source hides at its start (encoder delay) have
times before 0 and stay hidden. Samples that it hides at its end are recorded as the track's trim.
"""

import math
from abc import ABC, abstractmethod
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any

import av
from av import AudioStream, Packet
from av.stream import Stream

from upres.engine.decode.reader import Reader
from upres.engine.encode.fragment import LONGEST_TICKS, mux
from upres.engine.encode.publisher import Publisher
from upres.engine.segments.model import Fragment, Track

PREROLL = Fraction(1, 10)


@dataclass(frozen=True, slots=True)
class Route:
    """Source and destination of an audio track.

    name: of the track in the log. length: approximate duration of a fragment in seconds. container: format of the fragments.
    preroll: seconds of hidden audio to keep before 0, to warm up the decoder.
    """

    reader: Reader
    stream: AudioStream
    name: str
    publisher: Publisher
    length: Fraction
    container: str = "mp4"
    preroll: Fraction = PREROLL


class AudioTrack(ABC):
    """Turns a track's packets into fragments of the log. notes: messages for the user, complete after `finish`."""

    def __init__(self, route: Route) -> None:
        reader, stream, name, log = route.reader, route.stream, route.name, route.publisher.log
        rate = stream.codec_context.sample_rate
        self.notes: list[str] = []
        self._reader = reader
        self._stream = stream
        self._name = name
        self._format = route.container
        self._log = log
        self._source = stream.time_base or Fraction(1, rate)
        self._length = route.length
        self._publisher = route.publisher
        self._repairs = reader.repairs
        self._timeline = reader.timeline(stream, 1)
        self._origin = reader.origin / self._source
        self._earliest = -route.preroll / self._source
        self._end = None if reader.cut.duration is None else reader.cut.duration / self._source
        self._template: Stream = stream
        self._ticks = Fraction(1, rate)
        self._slack = max(1, math.ceil(self._source * rate))
        self._next: int | None = None
        self._stamp: int | None = None  # in samples, as the source has it
        self._end_of_last: int | None = None  # by its duration, which may be less exact than _next
        self._packets: list[Packet[Any]] = []
        published = log.fragments(name)
        left_out = [extra["packets"] for extra in log.extras if extra.get("left_out") == name]
        self._known = sum(fragment.frames for fragment in published) + sum(left_out)
        self._number = len(published)
        self._first: int | None = log.tracks[name].start if name in log.tracks else None
        self._latest = self._damaged = 0

    @abstractmethod
    def push(self, packet: "Packet[Any]") -> None:
        """Process one packet of this track."""

    def finish(self) -> None:
        """Publish the remaining packets; add a note if the whole track is damaged."""
        self._publish()
        if self._damaged and not self._log.fragments(self._name):
            codec = self._stream.codec_context.name
            self.notes.append(
                f"audio, track {self._stream.index} ({codec}) is left out: all that can be read of it is damaged"
            )

    def _damage(self, packets: int = 1) -> None:
        """Count packets as damaged."""
        self._repairs.damaged += packets
        self._damaged += packets

    def _place(self, pts: int | None, dts: int | None, duration: int) -> Fraction | None:
        """Return a packet's repaired time in seconds from the origin; None if it is outside the cut or too far before 0."""
        at = self._timeline.place(pts, dts) - self._origin
        too_early = at < self._earliest and at + duration <= self._earliest
        return None if too_early or (self._end is not None and at >= self._end) else at * self._source

    def _aligned(self, sample: int, first: int | None = None) -> int:
        """Return a packet's first sample: directly after the previous packet, unless its timestamp differs by more than rounding.

        A packet with the timestamp of the previous one follows that one: in RealMedia all may have the same.
        first: used instead of the timestamp for the first packet.
        """
        expected = self._next if self._next is not None else sample if first is None else first
        if sample == self._stamp and self._end_of_last is not None and self._end_of_last > sample:
            return self._end_of_last
        self._stamp = sample
        return expected if abs(sample - expected) <= self._slack else sample

    def _add(self, packet: "Packet[Any]") -> None:
        """Add a packet, with times in the track's ticks. A gap that is longer than a file can represent counts as damage."""
        pts = packet.pts or 0
        if pts - self._latest > LONGEST_TICKS:
            self._damage()
            return
        self._latest = pts
        if self._known:  # published by the run that this one resumes
            self._known -= 1
            return
        if self._packets and (pts - (self._packets[0].pts or 0)) * self._ticks >= self._length:
            self._publish()
        self._packets.append(packet)

    def _publish(self) -> None:
        packets, self._packets = self._packets, []
        if not packets:
            return
        _fill_durations(packets)
        spans = [(packet.pts or 0, packet.duration or 0) for packet in packets]
        start = min(0, spans[0][0]) if self._first is None else self._first
        try:
            init, body = self._mux(packets, spans, start)
        except (av.FFmpegError, ValueError):
            self._leave_out(packets, spans, start)
            self._publish()
            return
        self._first, self._number = start, self._number + 1
        first, end = spans[0][0], sum(spans[-1])
        track = self._log.tracks.get(self._name) or self._track(init, start)
        fragment = Fragment(self._name, self._number - 1, 0, first - start, end - first, len(packets))
        self._publisher.publish(track, fragment, body)

    def _shortened(self, size: int) -> int:
        """Return the number of samples that the last packet's duration cuts off. size: samples of a complete packet."""
        last = self._packets[-1].duration or 0 if self._packets else 0
        return size - last if 0 < last < size else 0

    def _note_trim(self, samples: int) -> None:
        """Record the number of hidden samples at the end of the last packet, unless the log has the record already."""
        if samples and not any(extra.get("trim") == self._name for extra in self._log.extras):
            self._log.note({"trim": self._name, "samples": samples})

    def _mux(self, packets: "list[Packet[Any]]", spans: list[tuple[int, int]], start: int) -> tuple[bytes, bytes]:
        for packet, (pts, duration) in zip(packets, spans, strict=True):
            packet.pts = packet.dts = pts - start
            packet.duration, packet.time_base = duration, self._ticks
        return mux(packets, self._template, self._number + 1, self._format)

    def _leave_out(self, packets: "list[Packet[Any]]", spans: list[tuple[int, int]], start: int) -> None:
        """After a fragment could not be written, keep only those of its packets that can be written alone (none if all can)."""
        kept = []
        for packet, span in zip(packets, spans, strict=True):
            with suppress(av.FFmpegError, ValueError):
                self._mux([packet], [span], start)
                packet.pts, packet.duration, packet.time_base = *span, self._ticks
                kept.append(packet)
        self._packets = kept if len(kept) < len(packets) else []
        refused = len(packets) - len(self._packets)
        self._damage(refused)
        self._log.note({"left_out": self._name, "packets": refused})  # so that a resumed run does not count them again

    def _track(self, init: bytes, start: int) -> Track:
        codec, language = self._template.codec_context.name, self._stream.metadata.get("language")
        return Track(self._name, codec, self._ticks, start, init, language, int(self._stream.disposition), self._format)


def _fill_durations(packets: "list[Packet[Any]]") -> None:
    """Set missing durations: up to the next packet, or for the last packet the duration of the one before."""
    for packet, following in pairwise(packets):
        packet.duration = packet.duration or (following.pts or 0) - (packet.pts or 0)
    if len(packets) > 1:
        packets[-1].duration = packets[-1].duration or packets[-2].duration
