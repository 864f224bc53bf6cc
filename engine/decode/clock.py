"""Jumps of a whole file's clock: all tracks shift by the same amount. Single stamps are repaired in `core.timeline`.

A recording whose clock was reset (a joined MPEG-TS, an HLS playlist, a camera that wrapped) has one discontinuity, which every
track reaches in its own packet. The rule, for packets in the order of the file:
1. A stamp goes on from the track's last one, or lies ahead of it by what some track of the file bears out: nothing is done.
2. It falls by about the container's whole stamp range: the range is added from here on.
3. It falls by more than TOLERANCE, and with it the time at which its packet is shown, or lies more than the limit ahead of all
   tracks: a jump. Packets are held until each track has reached it, within bounds; then all that have are shifted so that the
   video goes on where it ended, unless another track would overlap what came before by more than TOLERANCE.
4. A track that reaches the jump later joins that shift; one that never does keeps its own.
A gap of one track that others fill is kept, whatever its length. One that no track fills is kept up to the limit. Where the source
was waited for at a jump, as where a live one was started again, the gap lasts as long as that wait, and no longer than the jump.
Thresholds: those of ffmpeg (-dts_delta_threshold, and 0.1 s backward), except for containers that give absolute times.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction

from av.stream import Stream

from upres.engine.core.timeline import Repairs

from .container import CLOCK_MAY_JUMP, MediaPacket

TOLERANCE = Fraction(1, 10)  # seconds that decoding times may fall
LOOSE_TOLERANCE = Fraction(1)  # likewise of presentation times, where there are no others: frames may be reordered
JUMPY_LIMIT = Fraction(10)  # seconds ahead of all tracks, in containers whose clock may jump (MPEG-TS, Ogg, …)
STEADY_LIMIT = Fraction(600)  # likewise in all others, where it may be one frame that is shown for long
MPEG_STAMP_RANGE = Fraction(1 << 33, 90000)  # ISO/IEC 13818-1, 2.4.3.6: PTS and DTS are 33 bits of a 90 kHz clock
MOST_DELAY = Fraction(60)  # seconds between decoding and showing a frame: sixteen reordered frames, however slow
LAG = Fraction(3)  # seconds that one track may be interleaved behind the others
LARGEST_STAMP = 1 << 62  # ticks; FFmpeg's stamps have 64 bits, and sums of them must not leave these
HELD_SECONDS, HELD_PACKETS, HELD_BYTES = Fraction(2), 1000, 8 << 20
MOST_JUMPS = 16  # that a track may be behind
PAUSE = Fraction(1, 2)  # seconds that a live source is waited for before that counts as time that passed in it
PAUSE_LAG = Fraction(
    1
)  # seconds of what was sent before a pause that may arrive after it, as MPEG-TS's last frame does


@dataclass(slots=True)
class _Track:
    """A track as it is placed so far, in seconds on the file's clock. jump: the number of the last jump it has joined."""

    time_base: Fraction
    sparse: bool = False
    shift: Fraction = Fraction(0)
    jump: int = 0
    last: Fraction | None = None
    end: Fraction | None = None
    top: Fraction | None = None  # where the last frame shown so far ends


@dataclass(slots=True)
class _Jump:
    """A jump that is not placed yet.

    held: packets, and whether each is its track's first behind the jump. starts: by track, that one's times (decoding, showing).
    """

    held: list[tuple[MediaPacket, bool]] = field(default_factory=list)
    starts: dict[int, tuple[Fraction, Fraction]] = field(default_factory=dict)
    newest: Fraction = Fraction(0)
    size: int = 0


class Clock:
    """Places packets on one clock. now: seconds that it has reached, by the source's first stamps; None before any.

    streams: the video first. flags: the container's, as libavformat has them. start: second at which the source starts, if known.
    removed: seconds that no track filled and that were cut out. waited: returns the seconds for which a live source kept its reader
    waiting for the packet that is placed next.
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
        self._pause: tuple[Fraction | None, Fraction] = (
            None,
            Fraction(0),
        )  # the last: where it was, and how long it lasted

    @property
    def end(self) -> Fraction | None:
        """The second at which the last of what has come ends, of subtitles, too; None before any."""
        return max((track.top for track in self._tracks.values() if track.top is not None), default=None)

    def place(self, packets: Iterator[MediaPacket]) -> Iterator[MediaPacket]:
        """Yield the same packets with their stamps shifted."""
        for packet in packets:
            waited = Fraction(self._waited())
            if waited >= PAUSE:
                self._pause = self.now, min(waited, STEADY_LIMIT)
            yield from self._take(packet)
        yield from self._settle()

    def _take(self, packet: MediaPacket) -> Iterator[MediaPacket]:
        track = self._tracks[packet.stream.index]
        if packet.is_discard:  # hidden by an edit list: it is decoded again, from where it was in the file
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
            self._repairs.damaged += 1  # a jump of its own; there is nothing to place it by
        else:
            self._pending = _Jump()
            yield from self._hold(packet, track, raw)

    def _plausible(self, packet: MediaPacket, track: _Track) -> Fraction | None:
        """Return a packet's raw time; where its two stamps contradict each other, it is shown when it is decoded."""
        raw = _time(packet, track)
        if packet.pts is not None and raw is not None and abs(packet.pts * track.time_base - raw) > MOST_DELAY:
            self._repairs.damaged += 1
            packet.pts = packet.dts
        return raw

    def _nearest(self, track: _Track, raw: Fraction) -> tuple[int, Fraction]:
        """Return the number and shift, of the track's own and of jumps it has not joined, that best continue the track."""
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
        """Tell whether a packet is shown behind those before it although it is decoded before them, as no clock would have it.

        libavformat makes such decoding times for MPEG-2 whose frames were all stamped as they are decoded.
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
        """Keep a packet until the jump is placed; what it is nearer to decides whether it lies behind the jump."""
        jump = self._pending or _Jump()
        index = packet.stream.index
        again = index in jump.starts and not jump.newest - HELD_SECONDS / 2 <= raw <= jump.newest + self._limit
        if again or self._is_enough(jump):
            yield from self._settle()
            yield from self._take(packet)
            return
        end = track.end if track.end is not None else track.top
        before = abs(raw + track.shift - end) if end is not None else self._limit
        near = abs(raw - jump.newest)
        behind = not jump.held or index in jump.starts or near < min(before, self._limit)
        first = behind and not track.sparse and index not in jump.starts
        if first:
            jump.starts[index] = raw, packet.pts * track.time_base if packet.pts is not None else raw
        if behind and not track.sparse:
            jump.newest = max(jump.newest, raw) if jump.held else raw
        jump.held.append((packet, first))
        jump.size += packet.size
        if self._is_enough(jump):
            yield from self._settle()

    def _is_enough(self, jump: _Jump) -> bool:
        """Return whether every track that has come so far has reached the jump, or more would be too much to hold."""
        alive = {index for index, track in self._tracks.items() if track.top is not None and not track.sparse}
        oldest = min((start for start, _ in jump.starts.values()), default=jump.newest)
        full = len(jump.held) >= HELD_PACKETS or jump.size >= HELD_BYTES or jump.newest - oldest > HELD_SECONDS
        return full or bool(jump.held and alive <= jump.starts.keys())

    def _settle(self) -> Iterator[MediaPacket]:
        """Place the jump that is pending, and give the packets that were held for it."""
        jump, self._pending = self._pending, None
        if jump is None:
            return
        shifts = {index: self._continuing(index, *start) for index, start in jump.starts.items()}
        exact = shifts.get(self._video, max(shifts.values()))
        shift = self._after_pause(jump, max(exact, max(shifts.values()) - TOLERANCE))
        self._count_jump(jump, shift)
        joined = self._new_jump(shift)
        for packet, first in jump.held:
            if first:
                track = self._tracks[packet.stream.index]
                track.jump, track.shift = joined
                yield self._shifted(packet, track)
            else:
                yield from self._take(packet)

    def _continuing(self, index: int, decoded: Fraction, shown: Fraction) -> Fraction:
        """Return the shift with which a track goes on where it ended, and no earlier."""
        track = self._tracks[index]
        top = track.top if track.top is not None else self.now if self.now is not None else shown
        return top - shown if track.end is None else max(track.end - decoded, top - shown)

    def _after_pause(self, jump: _Jump, shift: Fraction) -> Fraction:
        """Return a shift that leaves the time that passed before a jump, and no more than a clock that jumps forward says."""
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
    """Shift a stamp; None where FFmpeg's 64 bits could not hold it, so that the track's rule finds another."""
    return stamp + ticks if stamp is not None and abs(stamp + ticks) < LARGEST_STAMP else None


def _time(packet: MediaPacket, track: _Track) -> Fraction | None:
    """Return the seconds that a packet's own stamps say: when it is decoded, or shown where that is all it says."""
    stamp = packet.dts if packet.dts is not None else packet.pts
    return None if stamp is None else stamp * track.time_base
