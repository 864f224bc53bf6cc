"""One track of a live log as a player of HLS sees it: segments, and the parts of those that are still made.

Segments are those of the log. Parts are as long as PART_SECONDS of whole frames, which is what a player is behind a few times over.
"""

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from upres.engine.segments.model import Track
from upres.service.live.framing import FramingError

PART_SECONDS = 0.2
SLACK = 1.05  # over the usual length of a part, for frames whose durations are rounded
LONGER = 1.5  # times as long as any frame so far that one may become
MOST_LONGER = 0.5  # seconds of a part, at most, for that
LISTED = 4  # target durations in a playlist, one more than a server must keep there
KEPT = 6  # target durations behind it, for players that are about to ask
PARTED = 3  # target durations from the end in which parts are listed


@dataclass(frozen=True, slots=True)
class Chunk:
    """A fragment of the log with its place on the timeline. start, duration: seconds."""

    data: bytes
    start: float
    duration: float
    independent: bool

    @property
    def end(self) -> float:
        """Seconds at its end."""
        return self.start + self.duration


@dataclass(frozen=True, slots=True)
class Part:
    """Chunks that are published together. duration: seconds, as listed: a frame that is longer than a part may be counts as one."""

    chunks: tuple[Chunk, ...]
    duration: float

    @property
    def independent(self) -> bool:
        """Whether a player can start with it: it has a key frame."""
        return any(chunk.independent for chunk in self.chunks)


@dataclass(slots=True)
class Segment:
    """Parts that follow each other. number: its place among all. breaks: discontinuities before it. whole: no more parts come.

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
    """The segments of a track: listed, and retired ones that can still be asked for.

    durations: of chunks that came by now, in seconds, by which the length of parts is decided once and for all.
    target: the longest segment, in whole seconds. removed_breaks: discontinuities that are listed no more, or were before it.
    """

    def __init__(self, track: Track, durations: Sequence[float], target: int, removed_breaks: int = 0) -> None:
        self.track = track
        self.target = target
        self.segments: deque[Segment] = deque()
        self.removed_breaks = removed_breaks
        self._usual = sorted(durations)[len(durations) // 2]
        usual_part = self._usual * math.ceil(PART_SECONDS / self._usual) * SLACK
        longest = min(LONGER * max(durations), MOST_LONGER)
        self.part_target = math.ceil(round(1000 * max(usual_part, longest), 6)) / 1000
        self._retired: deque[Segment] = deque()
        self._pending: list[Chunk] = []
        self._next = 0

    def add(self, chunk: Chunk, *, opens: bool, breaks: int = 0, closes: bool = False) -> None:
        """Add what comes next. opens: a segment starts with it, after so many breaks. closes: a segment ends with it."""
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
        """End the segment that is made."""
        self._publish()
        if self.segments:
            self.segments[-1].whole = True
        self._retire()

    def shrink(self, most_bytes: int) -> None:
        """Forget the oldest segments until no more than so many bytes are kept, but never the newest.

        Raises FramingError where that one alone is twice as large: what sends it makes no segments.
        """
        size = sum(segment.size for segment in (*self._retired, *self.segments)) + sum(
            len(chunk.data) for chunk in self._pending
        )
        while size > most_bytes and (self._retired or len(self.segments) > 1):
            gone = self._retired.popleft() if self._retired else self._unlisted()
            size -= gone.size
        if size > 2 * most_bytes:
            raise FramingError(f"a segment of {size} bytes, where {most_bytes} are kept in all")

    def breaks_before(self, second: float) -> int:
        """Count the discontinuities up to a second."""
        return self.removed_breaks + sum(segment.breaks for segment in self.segments if segment.start <= second)

    @property
    def breaks(self) -> int:
        """Discontinuities until now."""
        return self.removed_breaks + sum(segment.breaks for segment in self.segments)

    def at(self, second: float) -> int:
        """Return the number of the newest segment that starts by a second, or of the last before all that are kept."""
        kept = (*self._retired, *self.segments)
        found = [segment.number for segment in kept if segment.start <= second]
        return found[-1] if found else (kept[0].number if kept else self._next) - 1

    def clear(self) -> None:
        """Forget all segments; those that come are numbered as if they were still here."""
        self.close()
        while self.segments:
            self._unlisted()
        self._retired.clear()

    @property
    def newest(self) -> tuple[int, int]:
        """Number of the newest part's segment, and its place there; (-1, -1) before the first."""
        found = next((segment for segment in reversed(self.segments) if segment.parts), None)
        return (-1, -1) if found is None else (found.number, len(found.parts) - 1)

    @property
    def whole(self) -> int:
        """Number of the first segment that is not whole yet."""
        return self.segments[-1].number if self.segments and not self.segments[-1].whole else self._next

    @property
    def hinted(self) -> tuple[int, int]:
        """Number of the next part's segment, and its place there, as far as is known."""
        open_ = self.segments and not self.segments[-1].whole
        return (self.segments[-1].number, len(self.segments[-1].parts)) if open_ else (self._next, 0)

    def find(self, number: int) -> Segment | None:
        """Return a segment that can be asked for."""
        return next((segment for segment in (*self._retired, *self.segments) if segment.number == number), None)

    def parted(self) -> Iterator[tuple[Segment, bool]]:
        """Yield the listed segments, each with whether its parts are listed, too."""
        left = sum(segment.duration for segment in self.segments)
        for segment in self.segments:
            yield segment, not segment.whole or left <= PARTED * self.target
            left -= segment.duration

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
            self._retired.append(self._unlisted())
        kept = sum(segment.duration for segment in self._retired)
        while kept > KEPT * self.target:
            kept -= self._retired.popleft().duration

    def _unlisted(self) -> Segment:
        segment = self.segments.popleft()
        self.removed_breaks += segment.breaks
        return segment
