"""A source's packets on one continuous clock, up to its end or an interruption that reconnecting cannot repair."""

import heapq
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from itertools import count

import av
from av import Packet
from av.container import InputContainer
from av.stream import Stream

from upres.engine.core.errors import EndedError, SourceError
from upres.engine.core.timeline import Repairs

from .clock import Clock
from .container import MediaPacket, Tracks, codec_name

UNREAD_SHARE = 0.2  # share of an MPEG-TS file that may be tables, stuffing and tracks that end late
MOST_SEARCHES = 1 << 14  # searches for the next packet of MPEG-TS after a gap, 64 KiB each
MOST_HELD_SECONDS, MOST_HELD_BYTES = 10, 64 << 20  # of video that waits for the audio of its fragment

Reopen = Callable[[], tuple[InputContainer, Tracks]]


class Demuxer:
    """Iterable over the packets of the selected tracks in file order, then one empty packet per track, which flushes its decoder.

    seeked: whether the container was seeked, so that its first packets do not show where the source starts.
    steady: the clock is known not to jump, so timestamps are not changed.
    until: second of the file's clock; iteration ends at the first video packet from there on.
    live: time spent waiting at a jump of the clock counts as time that passed in the source.
    reopen: opens the source again after it broke off, at most `reconnect` times in a row, until `interrupted` is set.
    reached_byte, video_byte: end of the packets read so far, of all tracks and of the video, as a file offset.
    """

    def __init__(
        self,
        container: InputContainer,
        tracks: Tracks,
        repairs: Repairs,
        *,
        seeked: bool = False,
        steady: bool = False,
        until: Fraction | None = None,
        live: bool = False,
        reopen: Reopen | None = None,
        reconnect: int = 0,
        interrupted: threading.Event | None = None,
    ) -> None:
        self._container = container
        self._streams = tracks.all
        self._repairs = repairs
        self._steady, self._until, self._live = steady, until, live
        self._reopen, self._reconnect = reopen, reconnect
        self._interrupted = interrupted or threading.Event()
        start, time_base = tracks.video.start_time, tracks.video.time_base
        known = start * time_base if start is not None and time_base and not seeked else None
        self._changed: dict[str, None] = {}  # notes, in order
        self._waited = 0.0
        self._clock = Clock(
            self._streams,
            repairs,
            flags=container.format.flags,
            start=known,
            waited=lambda: self._waited if live else 0.0,
        )
        self.reached_byte = self.video_byte = 0
        self._broke_off = False

    @property
    def reached(self) -> Fraction | None:
        """The latest second of the file's clock that any track has reached."""
        return self._clock.now

    @property
    def end(self) -> Fraction | None:
        """The second of the file's clock at which the packets read so far end, subtitles included; None before the first."""
        return self._clock.end

    @property
    def removed(self) -> Fraction:
        """Total seconds of gaps in all tracks that were cut out."""
        return self._clock.removed

    @property
    def notes(self) -> list[str]:
        """Messages for the user about parts that were not read or whose times were changed."""
        removed = self.removed
        cut_out = f"{float(removed):.1f} s that no track fills are cut out: the source's clock jumps there"
        why = "it was not there when the tracks were looked for"
        late = [f"{kind} that begins later in the source is left out: {why}" for kind in self._late()]
        broke_off = f"the source ended or broke off, and could not be reopened in {self._reconnect} attempts"
        return [*([cut_out] if removed else []), *late, *self._changed, *([broke_off] if self._broke_off else [])]

    def _late(self) -> Iterator[str]:
        """Yield the types of tracks that the container has now, but did not have when it was opened. PyAV does not list these."""
        for kind in ("audio", "subtitle"):
            try:
                self._container.streams.best(kind)
            except IndexError:
                yield kind

    @property
    def other_identifiers(self) -> str | None:
        """A message for a recording that continues under other packet identifiers, which libavformat treats as other tracks."""
        start, enough = self.video_byte, (1 - UNREAD_SHARE) * self._container.size
        if self._container.format.name != "mpegts" or start > enough:
            return None
        if self.reached_byte > enough and len(self._container.streams.video) == 1:
            return None
        return (
            f"its video ends at byte {start} of {self._container.size}: what follows has other packet identifiers (PIDs) "
            f"and is not read; `tail -c +{start + 1}` of the file gives the rest as a separate clip"
        )

    def __iter__(self) -> Iterator[MediaPacket]:
        for packet in self._connected() if self._steady else self._clock.place(self._timed()):
            yield packet
            if self._until is not None and self._reaches(packet, self._until):
                break
        for stream in self._streams:
            end: MediaPacket = Packet()
            end.stream = stream
            yield end

    def _reaches(self, packet: MediaPacket, second: Fraction) -> bool:
        stamp = packet.pts if packet.dts is None else packet.dts
        return (
            packet.stream.index == self._streams[0].index and stamp is not None and stamp * packet.time_base >= second
        )

    def _timed(self) -> Iterator[MediaPacket]:
        """Yield the packets of all connections, and store how long each was waited for, including the time to reconnect."""
        packets, requested_at = self._connected(), time.monotonic()
        for packet in packets:
            self._waited = time.monotonic() - requested_at
            yield packet
            requested_at = time.monotonic()

    def _connected(self) -> Iterator[MediaPacket]:
        """Yield the packets of the source, and those read after reconnections as if they came from the first connection."""
        packets, audio = self._packets(self._container, self._streams), self._container.streams.audio
        waits = self._live and "mp4" in self._container.format.name.split(",")
        yield from _interleaved(packets, [stream for stream in self._streams if stream in audio]) if waits else packets
        tries = 0
        while self._reopen is not None and tries < self._reconnect:
            if self._interrupted.wait(tries):
                return
            tries += 1
            try:
                container, tracks = self._reopen()
            except EndedError:
                return
            except SourceError:
                continue
            self._repairs.interruptions += 1
            own = self._matched(tracks)
            for packet in self._packets(container, tracks.all):
                tries = 0
                if packet.stream.index in own:
                    packet.stream = own[packet.stream.index]
                    yield packet
        self._broke_off = tries > 0

    def _matched(self, tracks: Tracks) -> dict[int, Stream]:
        """Return the track of the first connection for each track of a reopened source, by index.

        Audio and subtitles in another codec are left out, with a note, because the result's header describes the first one.
        Raises SourceError for video in another codec.
        """
        own = {}
        for kind in ("video", "audio", "subtitle"):
            before, now = ([each for each in streams if each.type == kind] for streams in (self._streams, tracks.all))
            for old, new in zip(before, now, strict=False):
                codecs = f"it was {codec_name(old)} before, and is {codec_name(new)} now"
                if codec_name(old) == codec_name(new):
                    own[new.index] = old
                elif kind == "video":
                    raise SourceError(f"the source was reopened, and its video changed: {codecs}; start the run again")
                else:
                    self._changed[f"{kind} is left out since the source was reopened: {codecs}"] = None
        return own

    def _packets(self, container: InputContainer, streams: tuple[Stream, ...]) -> Iterator[MediaPacket]:
        searches = 0
        while searches < MOST_SEARCHES:
            try:
                for packet in container.demux(*streams):
                    searches = 0
                    if packet.size or packet.pts is not None:  # otherwise it only marks the end of its track
                        self._account(packet)
                        yield packet
                return
            except av.BlockingIOError:
                self._repairs.damaged += searches == 0
                searches += 1
            except av.FFmpegError:
                self._repairs.damaged += 1
                return
            except IndexError:  # raised by PyAV at the end if tracks have appeared that it does not know
                return

    def _account(self, packet: MediaPacket) -> None:
        end = (packet.pos or 0) + packet.size
        self.reached_byte = max(self.reached_byte, end)
        if packet.stream is self._streams[0]:
            self.video_byte = max(self.video_byte, end)


def _interleaved(packets: Iterator[MediaPacket], audio: Sequence[Stream]) -> Iterator[MediaPacket]:
    """Yield the packets of MP4 in the order of their times, until all audio tracks have caught up with the video; then unchanged.

    In a fragment that is read from a stream, all its audio follows all its video, but a muxer needs the first audio packets to
    write the header. The fragment's index, which precedes both, says whether there is audio to wait for. The first packet never
    waits, so the first picture is not delayed.
    """
    buffered, order = list[tuple[Fraction, int, MediaPacket]](), count()
    read = dict[int, int]()  # the last timestamp of each track
    start: Fraction | None = None
    size = 0

    def is_due(second: Fraction) -> bool:
        return second == start or not any(_is_behind(stream, read.get(stream.index), second) for stream in audio)

    for packet in packets:
        stamp = packet.dts if packet.dts is not None else packet.pts or 0
        second = stamp * packet.time_base
        start = second if start is None else start
        size, read[packet.stream.index] = size + packet.size, stamp
        heapq.heappush(buffered, (second, next(order), packet))
        while buffered and is_due(buffered[0][0]):
            yield heapq.heappop(buffered)[2]
        caught_up = not buffered and all(stream.index in read for stream in audio)
        if caught_up or second - start > MOST_HELD_SECONDS or size > MOST_HELD_BYTES:
            break
    yield from (packet for _, _, packet in sorted(buffered))
    yield from packets


def _is_behind(stream: Stream, read: int | None, second: Fraction) -> bool:
    """Report whether the index lists packets of a track before a second that were not read yet. read: the last timestamp read."""
    entries, time_base = stream.index_entries, stream.time_base or Fraction(1)
    if not len(entries):
        return False
    if read is None:
        return entries[0].timestamp * time_base < second
    return read < entries[-1].timestamp and read * time_base < second
