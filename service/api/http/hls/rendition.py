"""One track of a live log as seen by an HLS player: segments, and the parts of recent and incomplete ones.

Segments are those of the log. Parts last about PART_SECONDS, in whole frames; a player is a few parts behind the live edge.
"""

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from upres.engine.segments.model import Track
from upres.service.live.framing import FramingError

PART_SECONDS = 0.2
SLACK = 1.05  # tolerance on a part's usual duration, for frames whose durations are rounded
FRAME_ALLOWANCE = 1.5  # a later frame may be this many times longer than the longest so far
MAX_ALLOWANCE = 0.5  # upper limit in seconds for that allowance
LISTED = 4  # target durations in a playlist, one more than required
KEPT = 6  # target durations kept after that, for players with an older playlist
PARTED = 3  # target durations before the end within which parts are listed


@dataclass(frozen=True, slots=True)
class Chunk:
    """A fragment of the log with its position on the timeline. start, duration: seconds."""

    data: bytes
    start: float
    duration: float
    independent: bool

    @property
    def end(self) -> float:
        """The end time in seconds."""
        return self.start + self.duration


@dataclass(frozen=True, slots=True)
class Part:
    """Chunks that are published together. duration: listed value in seconds; a longer single frame counts as the maximum."""

    chunks: tuple[Chunk, ...]
    duration: float

    @property
    def independent(self) -> bool:
        """Whether a player can start with it, because it contains a keyframe."""
        return any(chunk.independent for chunk in self.chunks)


@dataclass(slots=True)
class Segment:
    """Consecutive parts. number: position in the track. breaks: discontinuities before it. whole: no more parts follow.

    duration: seconds. size: bytes.
    """

    number: int
    start: float
    breaks: int
    parts: list[Part] = field(default_factory=list)
    whole: bool = False
    duration: float = 0.0
    size: int = 0

    def add(self, part: Part) -> None:
        """Publish another part."""
        self.parts.append(part)
        self.duration += sum(chunk.duration for chunk in part.chunks)
        self.size += sum(len(chunk.data) for chunk in part.chunks)


class Rendition:
    """The segments of a track: listed ones, and retired ones that can still be requested.

    durations: of the chunks received so far, in seconds; they determine the duration of parts, which stays fixed. target: maximum
    segment duration in whole seconds. removed_breaks: discontinuities that are no longer listed, or precede this rendition.
    """

    def __init__(self, track: Track, durations: Sequence[float], target: int, removed_breaks: int = 0) -> None:
        self.track = track
        self.target = target
        self.segments: deque[Segment] = deque()
        self.removed_breaks = removed_breaks
        self._usual = sorted(durations)[len(durations) // 2]
        usual_part = self._usual * math.ceil(PART_SECONDS / self._usual) * SLACK
        longest = min(FRAME_ALLOWANCE * max(durations), MAX_ALLOWANCE)
        self.part_target = math.ceil(round(1000 * max(usual_part, longest), 6)) / 1000
        self._retired: deque[Segment] = deque()
        self._pending: list[Chunk] = []
        self._next = 0

    def add(self, chunk: Chunk, *, opens: bool, breaks: int = 0, closes: bool = False) -> None:
        """Add the next chunk. opens: it starts a segment, after `breaks` discontinuities. closes: it ends a segment."""
        if opens or not self.segments or self.segments[-1].whole:
            self.close()
            self.segments.append(Segment(self._next, chunk.start, breaks))
            self._next += 1
        elif self._pending and self._length + chunk.duration > self.part_target:
            self._publish()
        self._pending.append(chunk)
        if closes:
            self.close()
        elif self._length + self._usual > self.part_target:
            self._publish()

    def close(self) -> None:
        """End the current segment."""
        self._publish()
        if self.segments:
            self.segments[-1].whole = True
        self._retire()

    def shrink(self, most_bytes: int) -> None:
        """Drop the oldest segments until at most `most_bytes` are kept, but never the newest.

        Raises FramingError if the newest one alone is twice as large, because its sender produces no segments.
        """
        size = sum(segment.size for segment in (*self._retired, *self.segments)) + sum(
            len(chunk.data) for chunk in self._pending
        )
        while size > most_bytes and (self._retired or len(self.segments) > 1):
            oldest = self._retired.popleft() if self._retired else self._unlist()
            size -= oldest.size
        if size > 2 * most_bytes:
            raise FramingError(f"a segment has {size} bytes, but at most {most_bytes} are kept in total")

    def breaks_before(self, second: float) -> int:
        """Return the number of discontinuities up to a time."""
        return self.removed_breaks + sum(segment.breaks for segment in self.segments if segment.start <= second)

    @property
    def breaks(self) -> int:
        """The number of discontinuities so far."""
        return self.removed_breaks + sum(segment.breaks for segment in self.segments)

    def at(self, second: float) -> int:
        """Return the number of the newest segment that starts at or before a time, or of the last one before those kept."""
        kept = (*self._retired, *self.segments)
        numbers = [segment.number for segment in kept if segment.start <= second]
        return numbers[-1] if numbers else (kept[0].number if kept else self._next) - 1

    def clear(self) -> None:
        """Drop all segments; later ones are numbered as if they had been kept."""
        self.close()
        while self.segments:
            self._unlist()
        self._retired.clear()

    @property
    def newest(self) -> tuple[int, int]:
        """Segment number and index of the newest part; (-1, -1) before the first."""
        newest = next((segment for segment in reversed(self.segments) if segment.parts), None)
        return (-1, -1) if newest is None else (newest.number, len(newest.parts) - 1)

    @property
    def whole(self) -> int:
        """Number of the first segment that is not complete."""
        return self.segments[-1].number if self.segments and not self.segments[-1].whole else self._next

    @property
    def hinted(self) -> tuple[int, int]:
        """Expected segment number and index of the next part."""
        open_ = self.segments and not self.segments[-1].whole
        return (self.segments[-1].number, len(self.segments[-1].parts)) if open_ else (self._next, 0)

    def find(self, number: int) -> Segment | None:
        """Return a segment that can still be requested."""
        return next((segment for segment in (*self._retired, *self.segments) if segment.number == number), None)

    def parted(self) -> Iterator[tuple[Segment, bool]]:
        """Yield the listed segments, each with whether its parts are listed too."""
        remaining = sum(segment.duration for segment in self.segments)
        for segment in self.segments:
            yield segment, not segment.whole or remaining <= PARTED * self.target
            remaining -= segment.duration

    @property
    def _length(self) -> float:
        return sum(chunk.duration for chunk in self._pending)

    def _publish(self) -> None:
        if self._pending:
            self.segments[-1].add(Part(tuple(self._pending), min(self._length, self.part_target)))
            self._pending = []

    def _retire(self) -> None:
        listed = sum(segment.duration for segment in self.segments)
        while len(self.segments) > 1 and listed - self.segments[0].duration >= LISTED * self.target:
            listed -= self.segments[0].duration
            self._retired.append(self._unlist())
        kept = sum(segment.duration for segment in self._retired)
        while kept > KEPT * self.target:
            kept -= self._retired.popleft().duration

    def _unlist(self) -> Segment:
        segment = self.segments.popleft()
        self.removed_breaks += segment.breaks
        return segment
