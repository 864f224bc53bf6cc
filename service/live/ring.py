"""A live log: the latest fragments of a source that does not end, in memory, and the places of those who read them.

One event loop uses it all; nothing here is safe from other threads.
"""

import asyncio
import time
from collections import deque
from collections.abc import Iterator
from math import inf

from upres.engine.segments.model import Fragment, Track
from upres.service.domain.errors import OffsetError

from .piece import Cursors, Dropped, Item, Piece


class Ring:
    """At most so many bytes and seconds of fragments; the oldest go when new ones come.

    holds: whether the first reader, whose place is `holder`, is waited for when it would lose something; then
    `blocked_since` is since when. bytes: that it holds. tracks: those that have started. changed: set when there is something new,
    or no more.
    """

    def __init__(self, *, most_bytes: int, most_seconds: float, holds: bool) -> None:
        self.tracks: dict[str, Track] = {}
        self.first = 0
        self.ended = False
        self.changed = asyncio.Event()
        self.blocked_since: float | None = None
        self.holder = Place(self) if holds else None
        self.most_bytes = most_bytes
        self._most_seconds = most_seconds
        self._items: deque[Item] = deque()
        self.bytes = 0
        self._frames: dict[str, int] = {}
        self._newest: dict[str, Fragment] = {}
        self._gone: dict[str, Fragment] = {}
        self._key: Item | None = None
        self._moved = asyncio.Event()

    @property
    def key(self) -> Item | None:
        """The newest key frame of the picture, while it is here."""
        return self._key if self._key is not None and self._key.number >= self.first else None

    @property
    def end_seconds(self) -> float:
        """Seconds of the source at the newest piece's end."""
        return self._items[-1].end if self._items else 0.0

    @property
    def next(self) -> int:
        """Number of the next piece."""
        return self.first + len(self._items)

    def pieces(self) -> Iterator[Piece]:
        """Yield what is here, oldest first."""
        return (item.piece for item in self._items)

    def __getitem__(self, number: int) -> Item:
        return self._items[number - self.first]

    def add_track(self, track: Track) -> None:
        """Add a track."""
        self.tracks[track.name] = track
        self._frames[track.name] = 0

    async def put(self, piece: Piece) -> None:
        """Add a piece, for which the oldest make room; waits where the holder has not read those. Adds none after the end."""
        fragment, track = piece.fragment, self.tracks[piece.fragment.track]
        start = float((fragment.pts + track.start) * track.time_base)
        end = float((fragment.pts + fragment.duration + track.start) * track.time_base)
        while not self.ended and self._items and self._over(len(piece.data), end):
            if self.holder is not None and self.holder.position <= self.first:
                self.blocked_since = self.blocked_since or time.monotonic()
                self._moved.clear()
                await self._moved.wait()
            else:
                self._forget()
        self.blocked_since = None
        if self.ended:
            return
        item = Item(self.next, piece, self._frames[track.name], start, end)
        self._items.append(item)
        if track.name == "video" and fragment.independent:
            self._key = item
        self.bytes += len(piece.data)
        self._frames[track.name] += fragment.frames
        self._newest[track.name] = fragment
        self._notify()

    def end(self) -> None:
        """Mark the log as complete: no more pieces come."""
        self.ended = True
        self._moved.set()
        self._notify()

    def release(self) -> None:
        """Stop waiting for the holder, which has gone."""
        self.holder = None
        self._moved.set()

    def moved(self) -> None:
        """Note that the holder has read something."""
        self._moved.set()

    def check(self, cursors: Cursors) -> None:
        """Raise OffsetError where a cursor lies behind what was published, or what follows it is no longer there."""
        for track, cursor in cursors.items():
            newest, gone = self._newest.get(track), self._gone.get(track)
            if newest is None or cursor > newest.cursor:
                there = "it is empty" if newest is None else f"it ends with {_named(newest)}"
                raise OffsetError(f"the cursor of {track} lies behind the log's end ({there})")
            if gone is not None and cursor < gone.cursor:
                oldest = next(
                    (item.piece.fragment for item in self._items if item.piece.fragment.track == track), newest
                )
                where = {"track": track, "segment": str(oldest.segment), "fragment": str(oldest.number)}
                raise OffsetError(f"the cursor of {track} is too old; the oldest there is is {_named(oldest)}", where)

    def _over(self, size: int, end: float) -> bool:
        return self.bytes + size > self.most_bytes or end - self._items[0].end > self._most_seconds

    def _forget(self) -> None:
        item = self._items.popleft()
        self.bytes -= len(item.piece.data)
        self._gone[item.piece.fragment.track] = item.piece.fragment
        self.first += 1

    def _notify(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()


class Place:
    """Where one reader of a ring stands. position: the number of the piece it reads next.

    cursors: what it has already. A track starts, and after a gap continues, with an independent fragment.
    most_late: seconds that it may be behind, for who watches. It starts with the newest key frame, and passes over to the newest
    when it is later than that.
    to_newest: continue with the newest key frame, not with the oldest that is left, once the ring lost what was to be read next.
    """

    def __init__(
        self, ring: Ring, cursors: Cursors | None = None, *, most_late: float | None = None, to_newest: bool = False
    ) -> None:
        self.position = 0
        self.ring = ring
        self._cursors = dict(cursors or {})
        self._announced: set[str] = set()
        self._delivered: dict[str, int] = {}
        self._most_late, self._to_newest = most_late, to_newest
        self._since = -inf

    def next(self) -> Track | Piece | Dropped | None:
        """Return what comes next: a track before its first piece, what was lost before a piece, a piece; None: nothing yet."""
        ring = self.ring
        if self.position < ring.first:
            if self._to_newest and self._delivered and ring.key is not None:
                self._since = ring.key.start
            self.position = ring.first
        self._pass_over()
        while self.position < ring.next:
            item = ring[self.position]
            fragment = item.piece.fragment
            if item.end <= self._since:
                self._move()
                continue
            if fragment.track not in self._announced:
                self._announced.add(fragment.track)
                return ring.tracks[fragment.track]
            if (lost := self._lost(item)) is not None and lost > 0 and fragment.independent:
                self._delivered[fragment.track] = item.before
                return Dropped(fragment, lost)
            self._move()
            if lost == 0 or (lost is None and fragment.independent):
                self._delivered[fragment.track] = item.before + fragment.frames
                if fragment.track not in self._cursors or fragment.cursor > self._cursors[fragment.track]:
                    return item.piece
        return None

    def _pass_over(self) -> None:
        """Go to the newest key frame, and to the sound of its time, where one starts or is too late."""
        key, ring = self.ring.key, self.ring
        if self._most_late is None or key is None or key.number < self.position or self.position >= ring.next:
            return
        if "video" not in self._delivered or ring.end_seconds - ring[self.position].start > self._most_late:
            self._since = key.start

    def _lost(self, item: Item) -> int | None:
        """Count the track's frames between the last one delivered and this one; None where none was delivered."""
        track = item.piece.fragment.track
        if track not in self._delivered and track not in self._cursors:
            return None
        return item.before - self._delivered.setdefault(track, item.before)

    def _move(self) -> None:
        self.position += 1
        if self.ring.holder is self:
            self.ring.moved()


def _named(fragment: Fragment) -> str:
    return f"segment {fragment.segment}, fragment {fragment.number}"
