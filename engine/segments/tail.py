"""Readers of a segment log that another process is writing."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import google_crc32c

from upres.engine.core.errors import LogError

from .model import DAMAGED, Fragment, Track, parse

# Bytes of the index per read, which is also the maximum length of a line; the longest lines hold a track's init section.
INDEX_READ = 1 << 20


class Records:
    """Parser of a log's records. tracks: those seen so far. notes: records that belong to no track, collected only on request."""

    def __init__(self, *, notes: bool = False) -> None:
        self.tracks: dict[str, Track] = {}
        self.notes: list[dict[str, Any]] = []
        self._notes = notes

    def parsed(self, lines: bytes) -> list[Track | Fragment]:
        """Return the tracks and fragments recorded in complete lines of an index. Raises LogError if a line is damaged."""
        try:
            items = [self._parse(line) for line in lines.splitlines()]
        except DAMAGED as error:
            raise LogError(f"the log's index is damaged ({error or type(error).__name__})") from error
        return [item for item in items if item is not None]

    def _parse(self, line: bytes) -> Track | Fragment | None:
        record = json.loads(line)
        item = parse(record)
        if isinstance(item, Track):
            self.tracks[item.name] = item
        elif item is None and self._notes and isinstance(record.get("extra"), dict):
            self.notes.append(record["extra"])
        return item


class Tail(Records):
    """Reader of a log folder, which need not exist yet. Acquires no lock and changes nothing.

    `news` raises LogError if the log was restarted, because then the records read so far are no longer part of it.
    """

    def __init__(self, folder: Path, *, notes: bool = False) -> None:
        super().__init__(notes=notes)
        self._folder = folder
        self._index = folder / "index.jsonl"
        self._inode: int | None = None
        self._offset = 0

    def news(self) -> list[Track | Fragment]:
        """Return the tracks and fragments published since the last call, in order, incomplete segments included."""
        items: list[Track | Fragment] = []
        more = True
        while more:
            data = self._read_index()
            lines = data[: data.rfind(b"\n") + 1]
            more = len(data) == INDEX_READ
            if more and not lines:
                raise LogError(f"{self._index} is damaged (a line of more than {INDEX_READ} bytes)")
            self._offset += len(lines)
            items += self.parsed(lines)
        return items

    def _read_index(self) -> bytes:
        """Read at most INDEX_READ bytes of the index, from the current offset; return nothing if there is no index yet."""
        try:
            with self._index.open("rb") as file:
                self._check_same(self._index.stat().st_ino)
                file.seek(self._offset)
                return file.read(INDEX_READ)
        except FileNotFoundError:
            return b""

    def read(self, fragment: Fragment) -> bytes:
        """Return a fragment's bytes. Raises LogError if they are damaged or missing."""
        return b"".join(self.parts(fragment, fragment.size))

    def parts(self, fragment: Fragment, size: int) -> Iterator[bytes]:
        """Yield a fragment's bytes, at most `size` at a time. Raises LogError before the last part if they are damaged."""
        at, end, checksum = 0, fragment.size, 0
        while True:
            data = self._part(fragment, at, min(size, end - at))
            at, checksum = at + len(data), google_crc32c.extend(checksum, data)
            if (at >= end and checksum != fragment.crc32c) or (at < end and not data):
                raise LogError(f"segment {fragment.segment} of track {fragment.track} is damaged or missing")
            yield data
            if at >= end:
                return

    def _part(self, fragment: Fragment, at: int, size: int) -> bytes:
        """Read one part. The file is opened for each part, so that a slow consumer keeps no file open."""
        try:
            with (self._folder / self.tracks[fragment.track].file).open("rb") as file:
                file.seek(len(self.tracks[fragment.track].init) + fragment.offset + at)
                return file.read(size)
        except FileNotFoundError as error:
            raise LogError("the log is missing: its job was deleted or restarted") from error

    def _check_same(self, inode: int) -> None:
        if self._inode is not None and inode != self._inode:
            raise LogError("the log was replaced; read it from its start")
        self._inode = inode
