"""Audio whose packets are copied, because both the log and the joined file support them."""

import io
import math
import re
from fractions import Fraction
from typing import Any

import av
from av import AudioFrame, AudioStream, Packet
from av.bitstream import BitStreamFilterContext

from upres.engine.core.channels import Channels
from upres.engine.encode.codec_delay import hidden, side_data
from upres.engine.encode.fragment import add_copy

from . import parameters
from .codecs import AAC
from .encoder import SoundEncoder
from .track import PREROLL, AudioTrack, Route
from .whole_frames import is_whole

LONGEST_PACKET = 10  # seconds; the longest packets of FLAC take 8
LARGEST_FRAME = 8192  # maximum of hidden samples at the end of a packet of unknown length: the largest block of Vorbis
LOOSE_STAMPS = Fraction(1, 5)  # seconds; a PES packet has one timestamp, but may hold several frames
DESCRIBED = ("vorbis", "alac")  # codecs whose packets cannot be decoded without the right header
SELF_DESCRIBED = ("mp1", "mp1float", "mp2", "mp2float", "mp3", "mp3float", "ac3", "eac3")  # the rate is in each packet


class CopiedAudio(AudioTrack):
    """Copies packets.

    A track has only one header. If the parameters of AAC packets change, the rest of the track is encoded again with the header's
    parameters. With other codecs, changed packets are copied if they are self-describing, or else left out.
    """

    def __init__(self, route: Route, channels: Channels) -> None:
        super().__init__(route)
        stream, context = self._stream, self._stream.codec_context
        if context.name in SELF_DESCRIBED:
            self._fix_header()
        # AAC in MPEG streams has a header before every packet; MP4 and Matroska have one for all of them.
        headers = context.name == "aac" and not context.extradata
        self._strip = BitStreamFilterContext("aac_adtstoasc", stream) if headers else None
        self._frame = context.frame_size or 0
        self._sample = _raw_sample(context.name, channels)
        self._last: int | None = None
        self._audible = False  # a packet that no edit list hides was seen
        self._trim = 0
        self._size_known = False  # of the last packet
        self._start = 0
        self._header = self._parameters = parameters.of_track(stream)
        self._encoder: SoundEncoder | None = None
        self._changed = False
        self._suspect: Packet[Any] | None = None

    def _fix_header(self) -> None:
        """Save the stream's current parameters, because libavformat changes them when packets of another rate arrive."""
        self._template = _snapshot(self._stream, self._format)
        rate = self._template.codec_context.sample_rate or self._stream.codec_context.sample_rate
        self._ticks = Fraction(1, rate)
        self._slack = max(1, math.ceil(self._source * rate))

    def push(self, packet: "Packet[Any]") -> None:
        """Copy one packet, or encode it again if its parameters differ from the track's."""
        if not packet.size or (packet.is_discard and self._audible):  # hidden between two parts of an edit list
            return
        self._audible = self._audible or not packet.is_discard
        if not is_whole(self._stream.codec_context.name, bytes(packet)):
            self._damage()
            return
        self._parameters = parameters.of_packet(self._stream, packet) or self._parameters
        self._header = self._header or self._parameters
        changed = self._parameters != self._header
        if changed and not self._changed:  # probably a damaged header, unless the next packet confirms it
            self._changed, self._suspect = True, packet
            return
        suspect, self._suspect, self._changed = self._suspect, None, changed
        if suspect is not None and changed:
            self._push_changed(suspect)
        self._damage(suspect is not None and not changed)
        if changed or self._encoder is not None:
            self._push_changed(packet)
        else:
            self._push_unchanged(packet)

    def _push_unchanged(self, packet: "Packet[Any]") -> None:
        """Process a packet that matches the track's header."""
        try:
            packets = self._strip.filter(packet) if self._strip else [packet]
        except av.FFmpegError:
            self._damage()
            return
        for stripped in packets:
            if self._strip and self._template is self._stream:
                self._template = _snapshot(self._stream, "mp4", side_data(stripped, "new_extradata"))
            self._copy(stripped)

    def finish(self) -> None:
        """Publish the remaining packets, and record the samples hidden at the end."""
        if self._encoder is not None:
            for packet in self._encoder.finish():
                self._add_encoded(packet, self._encoder.rate)
        elif self._packets and self._trim:
            last = self._packets[-1]
            last.duration = max(1, (last.duration or 0) - self._trim * self._size_known)
            self._note_trim(self._trim)
        elif self._stream.codec_context.name == "aac":  # whose packets all have the same number of samples
            self._note_trim(self._shortened(self._frame))
        elif self._packets and (total := parameters.tta_samples(self._stream)):
            self._packets[-1].duration = _rest_of_tta(self._packets[-1].pts or 0, total, self._ticks)
        super().finish()

    def _copy(self, packet: "Packet[Any]") -> None:
        before, after = hidden(packet)
        if self._last is None and before <= PREROLL / self._ticks:  # the encoder delay is kept completely
            self._earliest = min(self._earliest, -before * self._ticks / self._source)
        at = self._place(packet.pts, packet.dts, packet.duration or 0)
        if at is None:
            return
        seconds = (packet.duration or 0) * self._source
        stamped = round(seconds / self._ticks) if 0 <= seconds <= LONGEST_PACKET else 0
        if self._sample:
            self._frame = packet.size // self._sample
        # The codec's frame size is used if the packet's duration agrees with it within rounding.
        known = self._frame > 0 and abs(stamped - self._frame) <= self._slack
        pts = self._aligned(round(at / self._ticks), -before if before else None)
        packet.pts = packet.dts = self._last = pts if self._last is None else max(pts, self._last + 1)
        packet.duration, packet.time_base = self._frame if known else stamped, self._ticks
        self._next = packet.pts + self._frame if known else None
        self._end_of_last = packet.pts + packet.duration
        self._trim = after if after < (self._frame or LARGEST_FRAME) else 0
        self._size_known = known
        self._add(packet)

    def _push_changed(self, packet: "Packet[Any]") -> None:
        """Process a packet that does not match the track's header."""
        codec = self._stream.codec_context.name
        target = parameters.encodable(codec, self._header)
        if target is not None:
            self._reencode(packet, *target)
        elif codec in DESCRIBED or codec == "aac":
            self._note("is left out", packet)
        else:
            self._copy(packet)

    def _reencode(self, packet: "Packet[Any]", rate: int, layout: str) -> None:
        self._note("is encoded again", packet)
        try:
            frames = self._stream.decode(packet)
        except av.FFmpegError:
            self._damage()
            return
        for frame in frames:
            at = self._place(frame.pts, frame.dts, 0)
            if at is not None:
                self._encode(frame, at, rate, layout)

    def _encode(self, frame: AudioFrame, at: Fraction, rate: int, layout: str) -> None:
        """Encode a frame directly after the previous one if its time is close: timestamps refer to frames of another length."""
        end = self._next * self._ticks if self._next is not None else at
        at = end if abs(at - end) < LOOSE_STAMPS else at
        if self._encoder is None:
            self._encoder = SoundEncoder(AAC, rate, layout, Channels(0, ()), round(at * rate))
            self._start = round(at / self._ticks)
        frame.pts = round(at * frame.sample_rate)
        self._next = round((at + Fraction(frame.samples, frame.sample_rate)) / self._ticks)
        for packet in self._encoder.encode(frame):
            self._add_encoded(packet, rate)

    def _add_encoded(self, packet: "Packet[Any]", rate: int) -> None:
        """Add an encoded packet, converted to the track's ticks. The encoder's delay is dropped; copied packets precede it."""
        ticks = 1 / (rate * self._ticks)
        packet.pts, packet.duration = round((packet.pts or 0) * ticks), round((packet.duration or 0) * ticks)
        if packet.pts >= self._start:
            packet.dts, packet.time_base = packet.pts, self._ticks
            self._add(packet)

    def _note(self, what: str, packet: "Packet[Any]") -> None:
        if not self.notes:
            second = float((packet.pts or 0) * self._source - self._reader.origin)
            name = f"audio, track {self._stream.index} ({self._stream.codec_context.name})"
            self.notes.append(f"{name} changes its parameters at {second:.1f} s; from there on it {what}")


def _rest_of_tta(pts: int, total: int, ticks: Fraction) -> int:
    """Return the duration of the last packet of TTA. Matroska's demuxer derives the TTA header from the file's end in milliseconds.

    The decoder rejects the packet if that end is too late, so it is rounded down.
    """
    milliseconds = Fraction(1, 1000) / ticks
    return max(1, round((total // milliseconds - round(pts / milliseconds)) * milliseconds))


def _raw_sample(codec: str, channels: Channels) -> int:
    """Return the size of one sample of all channels of raw audio, in bytes; 0 if audio is compressed."""
    raw = re.fullmatch(r"pcm_[a-z]*(\d+)(le|be)?", codec)
    return int(raw[1]) // 8 * channels.count if raw else 0


def _snapshot(stream: AudioStream, container_format: str, header: bytes | None = None) -> AudioStream:
    """Return a copy of a stream with its current parameters. header: codec header to use instead of the stream's own."""
    container = av.open(io.BytesIO(), "w", format=container_format)
    template = add_copy(container, stream)
    assert isinstance(template, AudioStream)
    if header is not None:
        template.codec_context.extradata = header
    container.start_encoding()
    return template
