"""The segment log: what an upscale has produced so far, append-only, readable while it grows.

A segment is complete when a fragment that is its last is there; fragments of one that is not stay, for somebody may have read
them. `FolderLog` keeps one on disk.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Protocol

import google_crc32c

from upres.engine.core.errors import LogError


@dataclass(frozen=True, slots=True)
class Track:
    """One track of the result. name: video, audio0, … start: ticks to add to the log's times, which start at 0 or later.

    init: the header that every fragment of this track plays behind. language, disposition: as in the source.
    container: libavformat's name of what header and fragments are; another than mp4 only where MP4 does not know the codec.
    """

    name: str
    codec: str
    time_base: Fraction
    start: int
    init: bytes
    language: str | None = None
    disposition: int = 0
    container: str = "mp4"

    @property
    def file(self) -> str:
        """The name of its file in a folder."""
        return f"{self.name}.{'mkv' if self.container == 'matroska' else self.container}"


@dataclass(frozen=True, slots=True)
class Fragment:
    """One published piece of a track. segment, number: its cursor. pts, duration: ticks of the track's time base.

    frames: pictures or audio packets in it. independent: starts with a key frame. last: ends its segment.
    shot: a new shot starts with it. offset, size: where its bytes lie behind the init section. crc32c: of its bytes.
    """

    track: str
    segment: int
    number: int
    pts: int
    duration: int
    frames: int
    independent: bool = True
    last: bool = True
    shot: bool = False
    offset: int = 0
    size: int = 0
    crc32c: int = 0

    @property
    def cursor(self) -> tuple[int, int]:
        """Where it stands in its track; rises from fragment to fragment."""
        return self.segment, self.number


class Log(Protocol):
    """What is done with a log, wherever it lies."""

    header: dict[str, Any]
    tracks: dict[str, Track]
    extras: list[dict[str, Any]]

    def add_track(self, track: Track) -> None:
        """Begin a track; LogError where it is there already with another init section."""
        ...

    def append(self, fragment: Fragment, data: bytes) -> Fragment:
        """Publish a fragment; when this returns it survives a crash. Gives it back with offset, size and checksum."""
        ...

    def note(self, extra: dict[str, Any]) -> None:
        """Keep a record that belongs to no track: a subtitle packet."""
        ...

    def fragments(self, track: str) -> list[Fragment]:
        """A track's fragments so far."""
        ...

    def read(self, fragment: Fragment) -> bytes:
        """A fragment's bytes."""
        ...

    def close(self) -> None:
        """Let go of files and locks; what was published stays."""
        ...


class MemoryLog:
    """A log that lives as long as its process."""

    def __init__(self, header: Mapping[str, Any]) -> None:
        self.header = dict(header)
        self.tracks: dict[str, Track] = {}
        self.extras: list[dict[str, Any]] = []
        self._fragments: dict[str, list[Fragment]] = {}
        self._lock = threading.Lock()
        self._data: dict[str, bytearray] = {}

    def add_track(self, track: Track) -> None:
        """Begin a track."""
        with self._lock:
            if track.name in self.tracks:
                self._same(track)
                return
            self._store_track(track)
            self.tracks[track.name] = track
            self._fragments[track.name] = []

    def append(self, fragment: Fragment, data: bytes) -> Fragment:
        """Publish a fragment."""
        with self._lock:
            before = self._fragments[fragment.track]
            offset = before[-1].offset + before[-1].size if before else 0
            placed = replace(fragment, offset=offset, size=len(data), crc32c=google_crc32c.value(data))
            self._store(placed, data)
            before.append(placed)
            return placed

    def note(self, extra: dict[str, Any]) -> None:
        """Keep a record that belongs to no track."""
        with self._lock:
            self._store_note(extra)
            self.extras.append(extra)

    def fragments(self, track: str) -> list[Fragment]:
        """A track's fragments so far; none for a track that has not begun."""
        with self._lock:
            return list(self._fragments.get(track, ()))

    def read(self, fragment: Fragment) -> bytes:
        """A fragment's bytes; LogError where they are damaged."""
        data = self._load(fragment)
        if google_crc32c.value(data) != fragment.crc32c:
            raise LogError(
                f"segment {fragment.segment} of track {fragment.track} is damaged: its checksum does not match"
            )
        return data

    def close(self) -> None:
        """Nothing to let go of."""

    def _same(self, track: Track) -> None:
        if self.tracks[track.name] != track:
            raise LogError(
                f"track {track.name} begins anew with another header; the log was written by another build or machine"
            )

    def _store_track(self, track: Track) -> None:
        self._data[track.name] = bytearray()

    def _store(self, fragment: Fragment, data: bytes) -> None:
        self._data[fragment.track] += data

    def _store_note(self, extra: dict[str, Any]) -> None:
        pass

    def _load(self, fragment: Fragment) -> bytes:
        return bytes(self._data[fragment.track][fragment.offset : fragment.offset + fragment.size])
