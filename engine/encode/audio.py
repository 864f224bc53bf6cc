"""One audio track on its way into the log: copied packet by packet, or decoded and encoded as AAC.

Times in the log are counted in samples, from the reader's origin. What a source hides before its first sample (a codec's
priming) lies before 0 and stays hidden; what it hides behind its last one is noted as the track's trim.
"""

import io
import math
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any

import av
from av import AudioFrame, AudioResampler, AudioStream, Packet
from av.bitstream import BitStreamFilterContext
from av.stream import Stream

from upres.engine.decode.reader import Reader
from upres.engine.segments.model import Fragment, Track

from .codec_delay import hidden, side_data
from .fragment import add_copy, mux
from .publisher import Publisher

PREROLL = Fraction(1, 10)  # seconds of audio kept before the start of a cut, hidden, so that its decoder is warm there
AAC_BITS_A_CHANNEL = 96_000
AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)
AAC_LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "4.0", 5: "5.0", 6: "5.1", 8: "7.1"}


@dataclass(frozen=True, slots=True)
class Route:
    """The way of one track: from a stream of a reader, under a name, to a publisher, in fragments of about `length` seconds.

    container: the format of the fragments.
    """

    reader: Reader
    stream: AudioStream
    name: str
    publisher: Publisher
    length: Fraction
    container: str = "mp4"


class AudioTrack(ABC):
    """Packets in, fragments into the log."""

    def __init__(self, route: Route) -> None:
        reader, stream, name, log = route.reader, route.stream, route.name, route.publisher.log
        rate = stream.codec_context.sample_rate
        self._stream = stream
        self._name = name
        self._format = route.container
        self._log = log
        self._source = stream.time_base or Fraction(1, rate)
        self._length = route.length
        self._publisher = route.publisher
        self._timeline = reader.timeline(stream, 1)
        self._origin = reader.origin / self._source
        self._earliest = -PREROLL / self._source if reader.cut.start else None
        self._end = None if reader.cut.duration is None else reader.cut.duration / self._source
        self._template: Stream = stream
        self._ticks = Fraction(1, rate)
        self._slack = max(1, math.ceil(self._source * rate))
        self._next: int | None = None
        self._packets: list[Packet[Any]] = []
        self._known = sum(fragment.frames for fragment in log.fragments(name))
        self._number = len(log.fragments(name))
        self._first: int | None = log.tracks[name].start if name in log.tracks else None

    @abstractmethod
    def push(self, packet: "Packet[Any]") -> None:
        """Take one packet of this track."""

    def finish(self) -> None:
        """Publish what is left."""
        self._publish()

    def _place(self, pts: int | None, dts: int | None, duration: int) -> Fraction | None:
        """Return seconds from the origin; None where they lie outside the cut."""
        at = self._timeline.place(pts, dts) - self._origin
        too_early = self._earliest is not None and at + duration < self._earliest
        return None if too_early or (self._end is not None and at >= self._end) else at * self._source

    def _exactly(self, sample: int, first: int | None = None) -> int:
        """Return a packet's first sample: next to the one before it, unless its stamp differs by more than rounding does."""
        expected = self._next if self._next is not None else sample if first is None else first
        return expected if abs(sample - expected) <= self._slack else sample

    def _add(self, packet: "Packet[Any]") -> None:
        """Take a packet for the log, in its ticks."""
        if self._known:  # published before this run, which resumes another
            self._known -= 1
            return
        if self._packets and ((packet.pts or 0) - (self._packets[0].pts or 0)) * self._ticks >= self._length:
            self._publish()
        self._packets.append(packet)

    def _publish(self) -> None:
        if not self._packets:
            return
        packets, self._packets = self._packets, []
        _fill_durations(packets)
        first = packets[0].pts or 0
        start = self._first = min(0, first) if self._first is None else self._first
        end = (packets[-1].pts or 0) + (packets[-1].duration or 0)
        for packet in packets:
            packet.pts = packet.dts = (packet.pts or 0) - start
        self._number += 1
        init, body = mux(packets, self._template, self._number, self._format)
        codec, language = self._template.codec_context.name, self._stream.metadata.get("language")
        disposition = int(self._stream.disposition)
        track = Track(self._name, codec, self._ticks, start, init, language, disposition, self._format)
        fragment = Fragment(self._name, self._number - 1, 0, first - start, end - first, len(packets))
        self._publisher.publish(track, fragment, body)


class CopiedAudio(AudioTrack):
    """Audio whose packets both the log and the joined file can hold: not decoded, not changed."""

    def __init__(self, route: Route) -> None:
        super().__init__(route)
        stream = route.stream
        # AAC in MPEG streams has a header before every packet; MP4 and Matroska have one for all of them.
        headers = stream.codec_context.name == "aac" and not stream.codec_context.extradata
        self._strip = BitStreamFilterContext("aac_adtstoasc", stream) if headers else None
        self._frame = stream.codec_context.frame_size or 0
        self._sample = _raw_sample(stream)
        self._last: int | None = None
        self._trim = 0

    def push(self, packet: "Packet[Any]") -> None:
        """Take one packet."""
        if not packet.size:
            return
        try:
            packets = self._strip.filter(packet) if self._strip else [packet]
        except av.FFmpegError:
            return
        for stripped in packets:
            if self._strip and self._template is self._stream:
                self._template = _with_header(self._stream, side_data(stripped, "new_extradata"))
            self._copy(stripped)

    def finish(self) -> None:
        """Publish what is left, and note what is hidden behind the last sample."""
        if self._packets and self._trim:
            last = self._packets[-1]
            last.duration = max(1, (last.duration or 0) - self._trim)
            if not any(extra.get("trim") == self._name for extra in self._log.extras):
                self._log.note({"trim": self._name, "samples": self._trim})
        super().finish()

    def _copy(self, packet: "Packet[Any]") -> None:
        at = self._place(packet.pts, packet.dts, packet.duration or 0)
        if at is None:
            return
        before, self._trim = hidden(packet)
        stamped = round((packet.duration or 0) * self._source / self._ticks)
        if self._sample:
            self._frame = packet.size // self._sample
        # The codec's own length, where the stamps agree with it as exactly as they can.
        known = self._frame > 0 and abs(stamped - self._frame) <= self._slack
        pts = self._exactly(round(at / self._ticks), -before if before else None)
        packet.pts = packet.dts = self._last = pts if self._last is None else max(pts, self._last + 1)
        packet.duration, packet.time_base = self._frame if known else stamped, self._ticks
        self._next = packet.pts + self._frame if known else None
        self._add(packet)


class EncodedAudio(AudioTrack):
    """Audio of another codec, decoded and encoded as AAC. The encoder's priming keeps its place before the first sample."""

    def __init__(self, route: Route) -> None:
        super().__init__(route)
        stream = route.stream
        self._repairs = route.reader.repairs
        rate = stream.codec_context.sample_rate
        rate = rate if rate in AAC_RATES else 48000
        layout = AAC_LAYOUTS.get(stream.codec_context.channels, "stereo")
        self._container = av.open(io.BytesIO(), "w", format="mp4")
        output = self._container.add_stream("aac", rate=rate, layout=layout)
        assert isinstance(output, AudioStream)
        output.bit_rate = AAC_BITS_A_CHANNEL * output.codec_context.channels
        output.codec_context.time_base = self._ticks = Fraction(1, rate)
        self._container.start_encoding()
        self._template = self._output = output
        # Gaps become silence and overlaps are cut, so that sound stays where its stamps say. What is missing before 0 becomes
        # silence too: the encoder's priming then always lies before 0, where it can be hidden.
        options = {"async": "1", "first_pts": "0"}
        size = output.codec_context.frame_size
        self._resampler = AudioResampler("fltp", layout, rate, frame_size=size, options=options)

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
                frame.time_base = Fraction(1, frame.sample_rate)
                frame.pts = self._exactly(round(at * frame.sample_rate))
                self._next = frame.pts + frame.samples
                self._encode(frame)

    def finish(self) -> None:
        """Encode and publish what is left, and close the encoder."""
        self._encode(None)
        for packet in self._output.encode(None):
            self._add(packet)
        super().finish()
        self._container.close()

    def _encode(self, frame: AudioFrame | None) -> None:
        for resampled in self._resampler.resample(frame):
            for packet in self._output.encode(resampled):
                self._add(packet)


def _fill_durations(packets: "list[Packet[Any]]") -> None:
    """Let packets without a duration last until the next one; the last one as long as the one before it."""
    for packet, following in pairwise(packets):
        packet.duration = packet.duration or (following.pts or 0) - (packet.pts or 0)
    if len(packets) > 1:
        packets[-1].duration = packets[-1].duration or packets[-2].duration


def _raw_sample(stream: AudioStream) -> int:
    """Return the bytes of one sample of all channels in raw sound; 0 where sound is compressed."""
    raw = re.fullmatch(r"pcm_[a-z]*(\d+)(le|be)?", stream.codec_context.name)
    return int(raw[1]) // 8 * stream.codec_context.channels if raw else 0


def _with_header(stream: AudioStream, header: bytes) -> Stream:
    """Return a stream like this one whose codec has its header outside the packets."""
    container = av.open(io.BytesIO(), "w", format="mp4")
    template = add_copy(container, stream)
    template.codec_context.extradata = header
    container.start_encoding()
    return template
