"""Reader of any source that PyAV can open: frames with repaired timestamps, and the packets of the other tracks."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from functools import partial
from typing import Self

from av import VideoFrame
from av.stream import Stream

from upres.engine.color.convert import HDR
from upres.engine.core.channels import channels_of
from upres.engine.core.errors import SourceError
from upres.engine.core.text import number
from upres.engine.core.timeline import Repairs, Timeline, with_durations, with_nominal
from upres.engine.machine import video_engines

from .clock import LAG
from .connection import Connection
from .container import MediaPacket, check_size, codec_name
from .cut import WHOLE, Cut
from .decoder import Decoder, first_keyframe
from .dolby_vision import check_dolby_vision
from .info import describe, missing_frames, missing_seconds, start_of, why_no_frame
from .inventory import take_inventory
from .packets.scan import Scan, scan, seek_landing
from .packets.survey import Survey, is_needed, survey
from .source import Source

# Seconds before a cut at which a keyframe is searched; the last one leads to the beginning.
SEEK_BACK = (0, 5, 30, 10**9)

OnPacket = Callable[[MediaPacket], None]


class Reader:
    """An open source. Leaving its `with` block closes it.

    source: the source that was opened. info, inventory: its properties and contents. repairs: counts of the repairs so far.
    warnings: messages for the user. channels: channel layout of each audio track, by the track's index.
    origin: the second of the source's own clock that is 0 in the frames' times: the earliest start of a video or audio track, plus
    the start of the cut.
    formats: libavformat's names of the accepted containers, from files only; None accepts all, from anywhere.
    fresh: whether nothing was read from it yet.
    another: opens another reader of the same source with the same settings. Not possible for streams, which can be read only once.
    live: no frame waits for a later one, neither in the decoder's threads nor to derive its duration from the next frame's time,
    and nothing is spooled.
    nvdec: decode on an NVIDIA GPU what it supports, in its driver; for trusted sources only.
    eight_bits: the reason why frames are limited to 8 bits per channel; None keeps the source's bit depth until `limit` is called.
    Raises SourceError if the source is not a video, has no frames, has frames that are too large, or has high dynamic range
    while frames are limited to 8 bits, SettingsError if NVDEC does not open.
    """

    def __init__(
        self,
        source: Source,
        *,
        cut: Cut = WHOLE,
        tonemap: bool = False,
        formats: tuple[str, ...] | None = None,
        live: bool = False,
        nvdec: bool = False,
        eight_bits: str | None = "the result has 8",
    ) -> None:
        self.source = source
        self.another = partial(
            Reader, source, cut=cut, tonemap=tonemap, formats=formats, live=live, nvdec=nvdec, eight_bits=eight_bits
        )
        self.cut, self.tonemap, self.nvdec = cut, tonemap, nvdec
        self.repairs = Repairs()
        self.warnings: list[str] = []
        self.fresh = True
        self._carries = False
        self._passed: list[MediaPacket] = []
        self._on_packet: OnPacket = self._passed.append
        hwaccel = video_engines.nvdec() if nvdec else None
        self._connection = Connection(source, formats, live=live, hwaccel=hwaccel)
        self._name, self._live = self._connection.name, self._connection.live
        try:
            self.container, self._tracks = self._connection.container, self._connection.tracks
            self.video, self.audio, self.subtitles = self._tracks.video, self._tracks.audio, self._tracks.subtitles
            self.channels = {stream.index: channels_of(stream) for stream in self.audio}
            self._surveyed = self._survey()
            self.origin = start_of(self._tracks) + self.cut.start
            self._first = self._decode_first(self.origin if self.cut.start else None)
            check_size(self._name, self._first.width, self._first.height)
            self.info = describe(self.container, self._tracks, self._first, self._surveyed)
            if self._connection.format:
                self.info = replace(self.info, container=self._connection.format, codec=self._connection.format)
            check_dolby_vision(self._name, self.video, self._first)
            if nvdec and self._decoder.on_cpu:
                what = f"{codec_name(self.video)} as {self._first.format.name}"
                self.warnings.append(f"NVDEC does not decode {what} here; the CPU does")
            if self.tonemap and self.info.shape.color.transfer in HDR:
                eight_bits = "tone mapping gives 8"
            if eight_bits is not None:
                self.limit(eight_bits)
            self.inventory = take_inventory(self.container, self._tracks, self._first)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def interrupt(self) -> None:
        """Abort a pending read, from any thread; nothing can be read after this."""
        self._connection.interrupt()

    def close(self) -> None:
        """Close the file; safe to call twice."""
        self._connection.close()

    def carry(self, on_packet: OnPacket) -> Iterator[Fraction]:
        """Pass the packets of other tracks to `on_packet`, and yield the time of each video packet in seconds, without decoding.

        Used instead of `frames`.
        """
        self.fresh, self._carries = False, True
        for packet in self._passed:
            on_packet(packet)
        for packet in self._packets:
            stamp = packet.dts if packet.pts is None else packet.pts
            if packet.stream.index != self.video.index:
                on_packet(packet)
            elif stamp is not None:
                yield stamp * packet.time_base - self.origin

    def start_at(self, second: Fraction) -> None:
        """Start reading at a keyframe at or before a second of the frames' times.

        Called before `frames`, and only if a scan found no anomalies. Timestamps are not repaired, because the first ones after a
        seek may be guesses of libavformat that look like a jump.
        Raises SourceError if the source is not seekable or has no frames there.
        """
        if not self.again or (self._surveyed is not None and self._surveyed.jumps):
            raise SourceError(f"{self._name}: is not seekable")
        self._first = self._decode_first(self.origin + second, self._first, steady=True)

    def scan(self) -> Scan:
        """Scan the packets from the beginning to the cut's end without decoding. The source must be readable a second time."""
        with self._connection.open_second() as (container, tracks):
            return scan(container, tracks, self.origin, self._until)

    def seek_lands_after(self, second: Fraction, earliest: Fraction) -> bool:
        """Report whether a seek to `second` in the newly opened source lands at or after `earliest`, in the frames' times."""
        with self._connection.open_second() as (container, tracks):
            landed = seek_landing(container, tracks, self.origin + second)
        return landed is not None and landed - self.origin >= earliest

    @property
    def again(self) -> bool:
        """Whether the source can be read a second time, from the beginning."""
        return self._connection.again

    @property
    def ahead(self) -> int:
        """Maximum number of bytes that the container buffers in packets, beyond the usual."""
        return self._connection.ahead

    @property
    def unpacked(self) -> bool:
        """Whether every reader of the source converts all of it before it reads."""
        return bool(self._connection.format)

    @property
    def waits(self) -> int:
        """Number of times that the reader waited for data; 0 if unknown."""
        return 0

    @property
    def nominal(self) -> int:
        """Nominal frame duration in ticks."""
        return max(1, round(1 / (self.info.shape.rate * self.info.shape.time_base)))

    def timeline(self, stream: Stream, nominal: int) -> Timeline:
        """Return the object that repairs one track's timestamps."""
        return Timeline(nominal, self.repairs, shared=stream.type == "audio")

    def frames(self, on_packet: OnPacket = lambda packet: None) -> Iterator[VideoFrame]:
        """Return an iterator over decoded frames in order, each with its pts and duration. Can be called once.

        on_packet: called with the packets of all other tracks.
        """
        self.fresh = False
        for packet in self._passed:
            on_packet(packet)
        self._on_packet = on_packet
        return (with_nominal if self._live else with_durations)(self._with_times(), self.nominal)

    def limit(self, reason: str) -> None:
        """Limit frames to 8 bits per channel. reason: why, for messages.

        Raises SourceError for high dynamic range without tone mapping.
        """
        transfer, self.another = self.info.shape.color.transfer, partial(self.another, eight_bits=reason)
        if transfer in HDR and not self.tonemap:
            raise SourceError(
                f"{self._name}: is high dynamic range ({transfer}), which takes 10 bits a channel, and {reason}; "
                "`tonemap` brings it down to SDR"
            )
        if self.info.bits > 8:
            self.warnings.append(f"the source's {self.info.bits} bits a channel become 8, dithered: {reason}")
        self.info = replace(self.info, shape=replace(self.info.shape, bits=8, light=None))

    def check_reaches(self, second: Fraction) -> None:
        """Raise SourceError if the source is known to end before a second."""
        length = self.info.seconds
        if length is not None and second >= length:
            raise SourceError(f"{self._name}: ends before second {number(second)}: it lasts {length:.1f} s")

    @property
    def notes(self) -> list[str]:
        """Messages for the user about what was cut out or changed while reading."""
        return [*self._demuxer.notes, *self._decoder.notes]

    @property
    def closing_notes(self) -> list[str]:
        """Messages for the user after the source was read to its end: `notes`, and what is missing."""
        other = self._demuxer.other_identifiers if self.again and self.cut == WHOLE else None
        return [note for note in (self._missing(), *self.notes, other) if note]

    def _survey(self) -> Survey | None:
        """Survey the packets if the container's declared duration or rate is unreliable and the source can be read twice."""
        if self._live or not self._connection.again or not is_needed(self.container, self._tracks):
            return None
        with self._connection.open_second() as (container, tracks):
            return survey(container, tracks)

    @property
    def _until(self) -> Fraction | None:
        """Second of the source's clock after which no packet is needed: the end of the cut, plus the lag of late audio packets."""
        streamed = self._live or not self.again  # a stream may never get that far
        return None if streamed or self.cut.duration is None else self.origin + self.cut.duration + LAG

    def _decode_first(
        self, second: Fraction | None, like: VideoFrame | None = None, *, steady: bool = False
    ) -> VideoFrame:
        """Return the first frame to read: a keyframe at or before a second of the source's clock, or the first one of all.

        like: a frame whose size and pixel format all others get. steady: as for Demuxer.
        """
        for back in SEEK_BACK:
            seeked = second is not None and self._seek(second - back)
            self._passed.clear()
            self.repairs.clear()
            self._demuxer = self._connection.packets(self.repairs, seeked=seeked, steady=steady, until=self._until)
            self._packets = iter(self._demuxer)
            self._decoder = Decoder(self.video, self.container.format.name, self.repairs, like)
            self._decoding = self._decoder.frames(self._packets, lambda packet: self._on_packet(packet))
            if second is not None and seeked:
                first = first_keyframe(self._decoding, self.video, second, self.repairs)
            else:
                first = next(self._decoding, None)
            if first is not None or not seeked:
                break
        if first is None:
            why = why_no_frame(self.container, self.video, self.repairs, self.cut)
            raise SourceError(f"{self._name}: not a single frame can be decoded ({why})")
        return first

    def _seek(self, second: Fraction) -> bool:
        """Seek; return whether that succeeded. Streams, and sources whose clock jumps, are decoded from the beginning instead."""
        return not (self._surveyed and self._surveyed.jumps) and self._connection.seek(second)

    def _missing(self) -> str | None:
        """Return a message about announced frames or seconds that could not be read; None if none are missing."""
        if self.cut != WHOLE:
            return None
        # AVI counts chunks, including the empty ones that repeat a frame.
        accounted = self._decoder.chunks if self.info.container == "avi" else self._decoder.accounted
        frames = None if self._carries else missing_frames(self.info, accounted)
        return frames or missing_seconds(self.container, self._tracks, self.info, self._demuxer, self.origin)

    def _with_times(self) -> Iterator[VideoFrame]:
        time_base = self.info.shape.time_base
        timeline = self.timeline(self.video, self.nominal)
        origin = round(self.origin / time_base)
        end = None if self.cut.duration is None else self.cut.duration / time_base
        frame: VideoFrame | None = self._first
        empty = True
        while frame is not None:
            frame.pts = timeline.place(frame.pts, frame.dts) - origin
            frame.time_base = time_base
            if end is not None and frame.pts >= end:
                break
            if not self.cut.start or frame.pts >= 0:
                empty = False
                yield frame
            frame = next(self._decoding, None)
        if self._until is not None:
            for packet in self._packets:  # audio of the cut may be interleaved after its video
                if packet.stream.index != self.video.index:
                    self._on_packet(packet)
        if empty:
            raise SourceError(f"{self._name}: there is no frame in the cut that begins at {number(self.cut.start)} s")
