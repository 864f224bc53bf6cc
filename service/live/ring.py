"""A live log: the latest fragments of an endless source, in memory, and the positions of its readers.

It is used by one event loop only and is not thread-safe.
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
    """A buffer of fragments, limited in bytes and seconds; the oldest are dropped for new ones.

    holds: wait for the first reader, at the place `holder`, if it would miss something; `blocked_since` is then the start of that
    wait. bytes: current size. tracks: those that have started. changed: set when a piece is added, or at the end.
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
        self._dropped: dict[str, Fragment] = {}
        self._key: Item | None = None
        self._moved = asyncio.Event()

    @property
    def key(self) -> Item | None:
        """The newest video keyframe, if it is still in the ring."""
        return self._key if self._key is not None and self._key.number >= self.first else None

    @property
    def end_seconds(self) -> float:
        """The end of the newest piece, in seconds of the source."""
        return self._items[-1].end if self._items else 0.0

    @property
    def next(self) -> int:
        """The number of the next piece."""
        return self.first + len(self._items)

    def pieces(self) -> Iterator[Piece]:
        """Yield the pieces in the ring, oldest first."""
        return (item.piece for item in self._items)

    def __getitem__(self, number: int) -> Item:
        return self._items[number - self.first]

    def add_track(self, track: Track) -> None:
        """Add a track."""
        self.tracks[track.name] = track
        self._frames[track.name] = 0

    async def put(self, piece: Piece) -> None:
        """Add a piece, dropping the oldest to make room; wait if the holder has not read those. Does nothing after the end."""
        fragment, track = piece.fragment, self.tracks[piece.fragment.track]
        start = float((fragment.pts + track.start) * track.time_base)
        end = float((fragment.pts + fragment.duration + track.start) * track.time_base)
        while not self.ended and self._items and self._over(len(piece.data), end):
            if self.holder is not None and self.holder.position <= self.first:
                self.blocked_since = self.blocked_since or time.monotonic()
                self._moved.clear()
                await self._moved.wait()
            else:
                self._drop_oldest()
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
        """Mark the log as complete: no more pieces follow."""
        self.ended = True
        self._moved.set()
        self._notify()

    def release(self) -> None:
        """Stop waiting for the holder, which is gone."""
        self.holder = None
        self._moved.set()

    def moved(self) -> None:
        """Record that the holder has read something."""
        self._moved.set()

    def check(self, cursors: Cursors) -> None:
        """Raise OffsetError if a cursor is after the end of the log, or the piece that follows it was dropped."""
        for track, cursor in cursors.items():
            newest, dropped = self._newest.get(track), self._dropped.get(track)
            if newest is None or cursor > newest.cursor:
                there = "it is empty" if newest is None else f"it ends with {_named(newest)}"
                raise OffsetError(f"the cursor of {track} is after the log's end ({there})")
            if dropped is not None and cursor < dropped.cursor:
                oldest = next(
                    (item.piece.fragment for item in self._items if item.piece.fragment.track == track), newest
                )
                where = {"track": track, "segment": str(oldest.segment), "fragment": str(oldest.number)}
                raise OffsetError(f"the cursor of {track} is too old; the oldest fragment is {_named(oldest)}", where)

    def _over(self, size: int, end: float) -> bool:
        return self.bytes + size > self.most_bytes or end - self._items[0].end > self._most_seconds

    def _drop_oldest(self) -> None:
        item = self._items.popleft()
        self.bytes -= len(item.piece.data)
        self._dropped[item.piece.fragment.track] = item.piece.fragment
        self.first += 1

    def _notify(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()


class Place:
    """The position of one reader in a ring. position: number of the piece it reads next.

    cursors: what the reader has already. A track starts, and continues after a gap, with an independent fragment. most_late: for
    viewers, maximum delay in seconds: the viewer starts at the newest keyframe, and skips to the newest one when it is later than
    that.
    to_newest: after missing the next piece, continue with the newest keyframe instead of the oldest remaining piece.
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
        """Return the next element: a track before its first piece, a gap before a piece, or a piece; None if nothing is new."""
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
        """Skip to the newest keyframe, and to the audio at its time, at the start or if the viewer is too late."""
        key, ring = self.ring.key, self.ring
        if self._most_late is None or key is None or key.number < self.position or self.position >= ring.next:
            return
        if "video" not in self._delivered or ring.end_seconds - ring[self.position].start > self._most_late:
            self._since = key.start

    def _lost(self, item: Item) -> int | None:
        """Return the number of missed frames of the track before this item; None if none of it was delivered yet."""
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
