"""Any container and codec PyAV opens, to frames with repaired time. Packets of other tracks go to whoever asked for them."""

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

import av
from av import Packet, VideoFrame
from av.stream import Stream

from upres.engine.color.convert import HDR, depth_of, resolve
from upres.engine.color.orientation import orientation
from upres.engine.core.errors import SourceError
from upres.engine.core.frame import Shape
from upres.engine.core.text import counted
from upres.engine.core.timeline import MPEG_STAMP_RANGE, Repairs, Timeline, with_durations, with_nominal

from .container import LIMIT, check_size, choose, codec_name, listed, open_container
from .cut import WHOLE, Cut
from .info import Info
from .inventory import take_inventory
from .source import Source, opened

USUAL_RATE = Fraction(25)
SEEK_BACK = (0, 5, 30, 10**9)  # seconds before a cut at which its key frame is looked for; the last is the beginning
MOST_SEARCHES = 1 << 14  # for the next packet of MPEG-TS behind a hole, 64 KiB each

OnPacket = Callable[["Packet[Any]"], None]


class Reader:
    """An open source. Closing it, or leaving its `with`, closes the file.

    source: what was opened. info: what it holds. repairs: what was mended so far. warnings: what a user should know.
    origin: the second of the source's own clock that is 0 in the frames' times: the earliest start of any carried track, plus
    the start of the cut.
    formats: libavformat's names of the containers that are taken, from files only; None means all, from anywhere.
    live: no frame waits for a later one: neither a decoder's threads nor the next frame's time, which a duration is else
    derived from, and nothing is spooled.
    Raises SourceError where it is not a video, has no frames, is too large, or is high dynamic range without `tonemap`.
    """

    def __init__(
        self,
        source: Source,
        *,
        cut: Cut = WHOLE,
        tonemap: bool = False,
        formats: tuple[str, ...] | None = None,
        live: bool = False,
    ) -> None:
        self.source = source
        self.cut = cut
        self.tonemap = tonemap
        self.repairs = Repairs()
        self.warnings: list[str] = []
        self._name = str(source) if isinstance(source, str | Path) else "the source"
        self._passed: list[Packet[Any]] = []
        self._on_packet: OnPacket = self._passed.append
        self._live = live
        file, self._spool = opened(source, spool=not live)
        try:
            self.container = open_container(self._name, file, formats, live=live)
            tracks = choose(self._name, self.container, live=live)
            self.video, self.audio, self.subtitles = tracks.video, tracks.audio, tracks.subtitles
            self.origin = self._origin()
            self._first = self._decode_first()
            self.info = self._describe(tonemap)
            self.inventory = take_inventory(self.container, tracks, self._first)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; safe to call twice."""
        if hasattr(self, "container"):
            self.container.close()
        if self._spool is not None:
            self._spool.close()

    @property
    def nominal(self) -> int:
        """Ticks a frame usually lasts."""
        return max(1, round(1 / (self.info.shape.rate * self.info.shape.time_base)))

    def timeline(self, stream: Stream, nominal: int) -> Timeline:
        """The rule that repairs one track's time."""
        wrap = MPEG_STAMP_RANGE if self.container.format.name in ("mpegts", "mpeg") else 0
        sound = stream.type == "audio"
        return Timeline(stream.time_base or Fraction(1, 90000), nominal, wrap, self.repairs, shared=sound)

    def frames(self, on_packet: OnPacket = lambda packet: None) -> Iterator[VideoFrame]:
        """Decoded frames in order, each with its pts and duration; other tracks' packets, unchanged, to `on_packet`.

        Can be called once.
        """
        for packet in self._passed:
            on_packet(packet)
        self._on_packet = on_packet
        return (with_nominal if self._live else with_durations)(self._placed(), self.nominal)

    def _origin(self) -> Fraction:
        tracks = (self.video, *self.audio)
        starts = [s.start_time * s.time_base for s in tracks if s.start_time is not None and s.time_base]
        return min(starts, default=Fraction(0)) + self.cut.start

    def _decode_first(self) -> VideoFrame:
        """The first frame to read on from: for a cut, a key frame at or before its start."""
        for back in SEEK_BACK:
            sought = self.cut.start > 0 and self._seek(self.origin - back)
            self._passed.clear()
            self.repairs.damaged = self.repairs.concealed = self._accounted = self._chunks = 0
            self._decoding = self._decode()
            first = next(self._decoding, None)
            if first is not None and (not sought or self._begins(first)):
                break
        if first is None:
            raise SourceError(f"{self._name}: not a single frame can be decoded ({self._nothing()})")
        check_size(self._name, first.width, first.height)
        return first

    def _seek(self, second: Fraction) -> bool:
        """Whether a seek worked: not in a stream, which is decoded from its beginning, nor before the beginning."""
        try:
            self.container.seek(max(0, round(second * av.time_base)))
        except av.FFmpegError:
            return False
        return True

    def _begins(self, frame: VideoFrame) -> bool:
        time_base = self.video.time_base or Fraction(1)
        pts = frame.pts if frame.dts is None or frame.pts is None else max(frame.pts, frame.dts)
        return frame.key_frame and pts is not None and pts * time_base <= self.origin

    def _packets(self) -> Iterator["Packet[Any]"]:
        """Packets to where the source ends or breaks off, then an empty one for each track, which empties its decoder."""
        tracks, searches = (self.video, *self.audio, *self.subtitles), 0
        while searches < MOST_SEARCHES:
            try:
                for packet in self.container.demux(*tracks):
                    searches = 0
                    yield packet
                return
            except av.BlockingIOError:
                self.repairs.damaged += searches == 0
                searches += 1
            except av.FFmpegError:
                self.repairs.damaged += 1
                break
        for track in tracks:
            end = Packet()
            end.stream = track
            yield end

    def _decode(self) -> Iterator[VideoFrame]:
        for packet in self._packets():
            if packet.stream.index != self.video.index:
                self._on_packet(packet)
                continue
            if not packet.size and packet.pts is not None:
                continue  # Theora's way to show a picture for longer
            self.repairs.damaged += packet.is_corrupt
            self._chunks = self._chunks if packet.dts is None else packet.dts + 1
            self._accounted += packet.is_discard
            try:
                for frame in self.video.decode(packet):
                    self.repairs.concealed += frame.is_corrupt
                    self._accounted += 1
                    yield frame
            except av.FFmpegError:
                self.repairs.damaged += 1

    def check_reaches(self, second: Fraction) -> None:
        """SourceError where a source that tells its length ends before a second."""
        length = self.info.seconds
        if length is not None and second >= length:
            raise SourceError(f"{self._name}: ends before second {float(second):g}: it lasts {length:.1f} s")

    @property
    def shortfall(self) -> str | None:
        """Once a whole source was read: what it announces more than it gave, for people; None where nothing is missing."""
        announced = self.info.frames or 0
        # AVI counts its chunks, and leaves one empty to show a picture for longer.
        accounted = self._chunks if self.info.container == "avi" else self._accounted
        if self.cut != WHOLE or accounted >= announced:
            return None
        return f"the source announces {counted(announced, 'frame')}, {accounted} of them could be read"

    def _nothing(self) -> str:
        """What is known of a source that gives no frame."""
        damaged = f"{counted(self.repairs.damaged, 'damaged packet')}; " if self.repairs.damaged else ""
        size = "" if self.video.width else f"its header names no frame size that can be held: at most {LIMIT}; "
        late = f"the cut begins at {float(self.cut.start):g} s; " if self.cut.start else ""
        return f"{damaged}{size}{late}found: {listed(self.container)}"

    def _placed(self) -> Iterator[VideoFrame]:
        time_base = self.info.shape.time_base
        timeline = self.timeline(self.video, self.nominal)
        origin = round(self.origin / time_base)
        end = None if self.cut.duration is None else self.cut.duration / time_base
        frame: VideoFrame | None = self._first
        before: int | None = None
        given = False
        while frame is not None:
            self._check_same(frame)
            if self.container.format.name == "avi":
                _stamp_by_order(frame, before, self.nominal)
            before = frame.pts
            frame.pts = timeline.place(frame.pts, frame.dts) - origin
            frame.time_base = time_base
            if end is not None and frame.pts >= end:
                break
            if not self.cut.start or frame.pts >= 0:
                given = True
                yield frame
            frame = next(self._decoding, None)
        if not given:
            raise SourceError(f"{self._name}: there is no frame in the cut that begins at {float(self.cut.start):g} s")

    def _describe(self, tonemap: bool) -> Info:
        video, first = self.video, self._first
        bits = depth_of(first)
        stands = orientation(first)
        turned = stands.lying
        aspect = video.sample_aspect_ratio or Fraction(1)
        shape = Shape(
            width=first.height if turned else first.width,
            height=first.width if turned else first.height,
            time_base=video.time_base or Fraction(1, 90000),
            rate=video.average_rate or video.guessed_rate or USUAL_RATE,
            sample_aspect=1 / aspect if turned else aspect,
            color=resolve(first),
        )
        if shape.color.transfer in HDR and not tonemap:
            raise SourceError(
                f"{self._name}: is high dynamic range ({shape.color.transfer}); --tonemap brings it down to SDR"
            )
        if bits > 8:
            self.warnings.append(f"the source's {bits} bits a channel become 8, dithered")
        return Info(
            shape=shape,
            container=self.container.format.name,
            codec=codec_name(video),
            pixel_format=first.format.name,
            bits=bits,
            orientation=stands,
            interlaced=first.interlaced_frame,
            seconds=self._seconds(),
            frames=video.frames or None,
            audio=tuple(map(codec_name, self.audio)),
            subtitles=tuple(map(codec_name, self.subtitles)),
        )

    def _seconds(self) -> float | None:
        if self.video.duration and self.video.time_base:
            return float(self.video.duration * self.video.time_base)
        return self.container.duration / av.time_base if self.container.duration else None

    def _check_same(self, frame: VideoFrame) -> None:
        if (frame.width, frame.height) != (self._first.width, self._first.height):
            was, now = f"{self._first.width}x{self._first.height}", f"{frame.width}x{frame.height}"
            raise SourceError(f"{self._name}: the frame size changes from {was} to {now}; split the clip there")


def _stamp_by_order(frame: VideoFrame, before: int | None, nominal: int) -> None:
    """AVI holds decoding times only, and what libavformat makes of them for reordered frames is a guess: they are shown as
    they come out of the decoder."""
    if frame.dts is not None:
        frame.pts = frame.dts
    elif before is not None:
        frame.pts = before + nominal
