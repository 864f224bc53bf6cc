"""Removal of clock jumps that affect a whole file, by shifting all tracks by the same amount.

Single timestamps are repaired in `core.timeline`. A recording whose clock was reset (a concatenated MPEG-TS, an HLS playlist, a
camera whose clock wrapped) has one discontinuity, which each track reaches at a different packet. Rules, for packets in file order:
1. A timestamp continues from the track's previous one, or is ahead of it by no more than another track confirms: nothing changes.
2. It falls by about the container's whole timestamp range: the range is added from here on.
3. It falls by more than TOLERANCE, and so does the packet's presentation time, or it is more than the limit ahead of all tracks:
   this is a jump. Packets are buffered, within bounds, until each track has reached it. Then all tracks that have reached it are
   shifted so that the video continues where it ended, unless another track would overlap its earlier part by more than TOLERANCE.
4. A track that reaches the jump later gets the same shift; one that never reaches it keeps its own.
A gap in one track that other tracks fill is kept, regardless of its length. A gap in all tracks is kept up to the limit.
If the reader had to wait for a live source before a jump, as after a restart of the source, the gap lasts as long as that wait,
but no longer than the jump.
Thresholds: those of ffmpeg (-dts_delta_threshold, and 0.1 s backward), except for containers with absolute times.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction

from av.stream import Stream

from upres.engine.core.timeline import Repairs

from .container import CLOCK_MAY_JUMP, MediaPacket

TOLERANCE = Fraction(1, 10)  # seconds that decoding times may fall
# Same for presentation times, used if there are no decoding times: frames may be reordered.
LOOSE_TOLERANCE = Fraction(1)
JUMPY_LIMIT = Fraction(10)  # seconds ahead of all tracks, in containers whose clock may jump (MPEG-TS, Ogg, …)
STEADY_LIMIT = Fraction(600)  # the same in all other containers, where a single frame may be shown for a long time
MPEG_STAMP_RANGE = Fraction(1 << 33, 90000)  # ISO/IEC 13818-1, 2.4.3.6: PTS and DTS are 33 bits of a 90 kHz clock
# Seconds between decoding and presenting a frame: sixteen reordered frames at a very low rate.
MOST_DELAY = Fraction(60)
LAG = Fraction(3)  # seconds that one track may be interleaved behind the others
LARGEST_STAMP = 1 << 62  # ticks; FFmpeg's timestamps have 64 bits, and sums of them must not overflow
BUFFER_SECONDS, BUFFER_PACKETS, BUFFER_BYTES = Fraction(2), 1000, 8 << 20
MOST_JUMPS = 16  # number of recent jumps that a track may not have reached yet
PAUSE = Fraction(1, 2)  # seconds of waiting for a live source from which on the wait counts as time that passed in it
PAUSE_LAG = Fraction(1)  # seconds of older data that may arrive after a pause, such as MPEG-TS's last frame


@dataclass(slots=True)
class _Track:
    """State of a track, in seconds of the file's clock.

    jump, shift: number of the last jump that it has reached, and its shift. last, end: decoding time of its last packet, and that
    time plus the packet's duration. top: latest end of a packet by presentation time.
    """

    time_base: Fraction
    sparse: bool = False
    shift: Fraction = Fraction(0)
    jump: int = 0
    last: Fraction | None = None
    end: Fraction | None = None
    top: Fraction | None = None


@dataclass(slots=True)
class _Jump:
    """A jump whose shift is not determined yet.

    buffered: packets after the jump, each with a flag that marks its track's first packet after the jump.
    starts: decoding and presentation time of that first packet, by track. newest: latest time after the jump. size: bytes buffered.
    """

    buffered: list[tuple[MediaPacket, bool]] = field(default_factory=list)
    starts: dict[int, tuple[Fraction, Fraction]] = field(default_factory=dict)
    newest: Fraction = Fraction(0)
    size: int = 0


class Clock:
    """Maps the packets of all tracks to one continuous clock.

    streams: the video first. flags: of the container, as in libavformat. start: second at which the source starts, if known.
    now: the latest second reached, continuing the source's first timestamps; None before the first packet.
    removed: total seconds of gaps in all tracks that were cut out.
    waited: returns the seconds for which a live source kept its reader waiting for the packet that is placed next.
    """

    def __init__(
        self,
        streams: tuple[Stream, ...],
        repairs: Repairs,
        *,
        flags: int,
        start: Fraction | None,
        waited: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._tracks = {s.index: _Track(s.time_base or Fraction(1, 90000), s.type == "subtitle") for s in streams}
        self._video = streams[0].index
        self._repairs = repairs
        self._jumpy = bool(flags & CLOCK_MAY_JUMP)
        self._limit = JUMPY_LIMIT if self._jumpy else STEADY_LIMIT
        self._jumps: deque[tuple[int, Fraction]] = deque(maxlen=MOST_JUMPS)
        self._count = 0
        self._pending: _Jump | None = None
        self.now = start if self._jumpy else None
        self.removed = Fraction(0)
        self._waited = waited
        # Time on the clock and duration of the last pause.
        self._pause: tuple[Fraction | None, Fraction] = (None, Fraction(0))

    @property
    def end(self) -> Fraction | None:
        """The second at which the latest packet so far ends, including subtitles; None before the first packet."""
        return max((track.top for track in self._tracks.values() if track.top is not None), default=None)

    def place(self, packets: Iterator[MediaPacket]) -> Iterator[MediaPacket]:
        """Yield the same packets with their timestamps shifted."""
        for packet in packets:
            waited = Fraction(self._waited())
            if waited >= PAUSE:
                self._pause = self.now, min(waited, STEADY_LIMIT)
            yield from self._place_packet(packet)
        yield from self._settle()

    def _place_packet(self, packet: MediaPacket) -> Iterator[MediaPacket]:
        track = self._tracks[packet.stream.index]
        if packet.is_discard:  # hidden by an edit list, which may lead back to an earlier position in the file
            yield self._moved(packet, track)
            return
        raw = self._plausible(packet, track)
        if raw is None:
            yield from self._settle() if not packet.size else ()
            yield packet
            return
        if self._pending is not None:
            yield from self._hold(packet, track, raw)
            return
        number, shift = self._nearest(track, raw)
        if self._fits(track, raw + shift, packet):
            track.jump, track.shift = number, shift
            yield self._shifted(packet, track)
        elif self._wraps(track, raw):
            self._repairs.wrapped += 1
            track.jump, track.shift = self._new_jump(track.shift + MPEG_STAMP_RANGE)
            yield self._shifted(packet, track)
        elif track.sparse:
            self._repairs.damaged += 1  # a jump in a sparse track only: there is nothing to derive its time from
        else:
            self._pending = _Jump()
            yield from self._hold(packet, track, raw)

    def _plausible(self, packet: MediaPacket, track: _Track) -> Fraction | None:
        """Return a packet's raw time. If its pts contradicts its dts, the pts is replaced by the dts."""
        raw = _time(packet, track)
        if packet.pts is not None and raw is not None and abs(packet.pts * track.time_base - raw) > MOST_DELAY:
            self._repairs.damaged += 1
            packet.pts = packet.dts
        return raw

    def _nearest(self, track: _Track, raw: Fraction) -> tuple[int, Fraction]:
        """Return number and shift of the jump that best continues the track: its current one, or one not reached yet."""
        own = (track.jump, track.shift)
        newer = [jump for jump in self._jumps if jump[0] > track.jump]
        if not newer or self.now is None:
            return own
        end = None if track.sparse else track.end if track.end is not None else track.top
        expected = self.now if end is None else max(end, self.now - LAG)
        return min((own, *newer), key=lambda jump: abs(raw + jump[1] - expected))

    def _fits(self, track: _Track, time: Fraction, packet: MediaPacket) -> bool:
        if self.now is not None and time > self.now + self._limit:
            return False
        if track.last is not None:
            falls = time < track.last - (TOLERANCE if packet.dts is not None else LOOSE_TOLERANCE)
            return not falls or self._shown_later(track, time, packet)
        if track.top is not None:
            return packet.dts is not None or time >= track.top - LOOSE_TOLERANCE
        return self.now is None or not self._jumpy or time >= self.now - self._limit

    def _shown_later(self, track: _Track, time: Fraction, packet: MediaPacket) -> bool:
        """Report whether a packet's presentation time continues the track although its decoding time falls, which is no clock jump.

        libavformat generates such decoding times for MPEG-2 whose frames carry their decoding times as presentation times.
        """
        if track.top is None or packet.pts is None or packet.dts is None:
            return False
        return time + (packet.pts - packet.dts) * track.time_base >= track.top - TOLERANCE

    def _wraps(self, track: _Track, raw: Fraction) -> bool:
        if not self._jumpy or track.last is None or self.now is None:
            return False
        time = raw + track.shift + MPEG_STAMP_RANGE
        return track.last - TOLERANCE <= time <= self.now + self._limit

    def _hold(self, packet: MediaPacket, track: _Track, raw: Fraction) -> Iterator[MediaPacket]:
        """Hold a packet back until the jump is settled. It counts as after the jump if its time is nearer to the packets there."""
        jump = self._pending or _Jump()
        index = packet.stream.index
        again = index in jump.starts and not jump.newest - BUFFER_SECONDS / 2 <= raw <= jump.newest + self._limit
        if again or self._is_enough(jump):
            yield from self._settle()
            yield from self._place_packet(packet)
            return
        end = track.end if track.end is not None else track.top
        before = abs(raw + track.shift - end) if end is not None else self._limit
        near = abs(raw - jump.newest)
        behind = not jump.buffered or index in jump.starts or near < min(before, self._limit)
        first = behind and not track.sparse and index not in jump.starts
        if first:
            jump.starts[index] = raw, packet.pts * track.time_base if packet.pts is not None else raw
        if behind and not track.sparse:
            jump.newest = max(jump.newest, raw) if jump.buffered else raw
        jump.buffered.append((packet, first))
        jump.size += packet.size
        if self._is_enough(jump):
            yield from self._settle()

    def _is_enough(self, jump: _Jump) -> bool:
        """Report whether all tracks seen so far have reached the jump, or the limit for buffered packets is reached."""
        alive = {index for index, track in self._tracks.items() if track.top is not None and not track.sparse}
        oldest = min((start for start, _ in jump.starts.values()), default=jump.newest)
        full = len(jump.buffered) >= BUFFER_PACKETS or jump.size >= BUFFER_BYTES
        return full or jump.newest - oldest > BUFFER_SECONDS or bool(jump.buffered and alive <= jump.starts.keys())

    def _settle(self) -> Iterator[MediaPacket]:
        """Determine the shift of the pending jump, and yield the packets that were buffered for it."""
        jump, self._pending = self._pending, None
        if jump is None:
            return
        shifts = {index: self._continuing(index, *start) for index, start in jump.starts.items()}
        exact = shifts.get(self._video, max(shifts.values()))
        shift = self._after_pause(jump, max(exact, max(shifts.values()) - TOLERANCE))
        self._count_jump(jump, shift)
        joined = self._new_jump(shift)
        for packet, first in jump.buffered:
            if first:
                track = self._tracks[packet.stream.index]
                track.jump, track.shift = joined
                yield self._shifted(packet, track)
            else:
                yield from self._place_packet(packet)

    def _continuing(self, index: int, decoded: Fraction, shown: Fraction) -> Fraction:
        """Return the shift with which a track continues exactly where it ended."""
        track = self._tracks[index]
        top = track.top if track.top is not None else self.now if self.now is not None else shown
        return top - shown if track.end is None else max(track.end - decoded, top - shown)

    def _after_pause(self, jump: _Jump, shift: Fraction) -> Fraction:
        """Return a shift increased by the time waited before the jump, if there was a pause, but not beyond a forward jump."""
        at, passed = self._pause
        if at is None or self.now is None or self.now - at > PAUSE_LAG:
            return shift
        own = self._tracks[next(iter(jump.starts))].shift
        return min(shift + passed, own) if shift < own else shift + passed

    def _count_jump(self, jump: _Jump, shift: Fraction) -> None:
        track = self._tracks[next(iter(jump.starts))]
        if shift <= track.shift:
            self._repairs.forward += 1
            self.removed += track.shift - shift
        else:
            self._repairs.backward += 1

    def _new_jump(self, shift: Fraction) -> tuple[int, Fraction]:
        self._count += 1
        self._jumps.append((self._count, shift))
        return self._jumps[-1]

    def _moved(self, packet: MediaPacket, track: _Track) -> MediaPacket:
        ticks = round(track.shift / track.time_base)
        if ticks:
            packet.pts = _moved(packet.pts, ticks)
            packet.dts = _moved(packet.dts, ticks)
        return packet

    def _shifted(self, packet: MediaPacket, track: _Track) -> MediaPacket:
        time = _time(self._moved(packet, track), track)
        if time is not None:
            self._advance(packet, track, time)
        return packet

    def _advance(self, packet: MediaPacket, track: _Track, time: Fraction) -> None:
        lasts = (packet.duration or 0) * track.time_base
        if not 0 < lasts <= self._limit:
            lasts = min(max(time - track.last, Fraction(0)), Fraction(1)) if track.last is not None else Fraction(0)
        if packet.dts is not None:
            track.last, track.end = time, time + lasts
        shown = time if packet.pts is None else packet.pts * track.time_base
        track.top = shown + lasts if track.top is None else max(track.top, shown + lasts)
        if not track.sparse:
            self.now = track.top if self.now is None else max(self.now, track.top)


def _moved(stamp: int | None, ticks: int) -> int | None:
    """Return a shifted timestamp; None if it would overflow FFmpeg's 64 bits, so that it is repaired as a missing one."""
    return stamp + ticks if stamp is not None and abs(stamp + ticks) < LARGEST_STAMP else None


def _time(packet: MediaPacket, track: _Track) -> Fraction | None:
    """Return a packet's decoding time in seconds, or its presentation time if it has no other; None if it has neither."""
    stamp = packet.dts if packet.dts is not None else packet.pts
    return None if stamp is None else stamp * track.time_base
