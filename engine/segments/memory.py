"""A segment log in memory."""

import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import google_crc32c

from upres.engine.core.errors import LogError

from .model import Fragment, Track


class MemoryLog:
    """A log that is kept in memory only; thread-safe."""

    def __init__(self, header: Mapping[str, Any]) -> None:
        self.header = dict(header)
        self.tracks: dict[str, Track] = {}
        self.extras: list[dict[str, Any]] = []
        self._fragments: dict[str, list[Fragment]] = {}
        self._lock = threading.Lock()
        self._data: dict[str, bytearray] = {}

    def add_track(self, track: Track) -> None:
        """Add a track. Raises LogError if the log already has one of this name with other properties."""
        with self._lock:
            if track.name in self.tracks:
                self._check_same(track)
                return
            self._store_track(track)
            self.tracks[track.name] = track
            self._fragments[track.name] = []

    def append(self, fragment: Fragment, data: bytes) -> Fragment:
        """Publish a fragment; return it with offset, size and checksum."""
        with self._lock:
            before = self._fragments[fragment.track]
            offset = before[-1].offset + before[-1].size if before else 0
            placed = replace(fragment, offset=offset, size=len(data), crc32c=google_crc32c.value(data))
            self._store(placed, data)
            before.append(placed)
            return placed

    def note(self, extra: dict[str, Any]) -> None:
        """Store a record that belongs to no track."""
        with self._lock:
            self._store_note(extra)
            self.extras.append(extra)

    def fragments(self, track: str) -> list[Fragment]:
        """Return the fragments of a track so far; an empty list if the track is unknown."""
        with self._lock:
            return list(self._fragments.get(track, ()))

    def read(self, fragment: Fragment) -> bytes:
        """Return a fragment's bytes. Raises LogError if they are damaged."""
        data = self._load(fragment)
        if google_crc32c.value(data) != fragment.crc32c:
            raise LogError(
                f"segment {fragment.segment} of track {fragment.track} is damaged: its checksum does not match"
            )
        return data

    def close(self) -> None:
        """Do nothing: there is nothing to release."""

    def _check_same(self, track: Track) -> None:
        if self.tracks[track.name] != track:
            raise LogError(f"track {track.name} has another header in the log: another build or machine wrote it")

    def _store_track(self, track: Track) -> None:
        self._data[track.name] = bytearray()

    def _store(self, fragment: Fragment, data: bytes) -> None:
        self._data[fragment.track] += data

    def _store_note(self, extra: dict[str, Any]) -> None:
        pass

    def _load(self, fragment: Fragment) -> bytes:
        return bytes(self._data[fragment.track][fragment.offset : fragment.offset + fragment.size])
