"""A segment log read while another process writes it."""

import json
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import google_crc32c

from upres.engine.core.errors import LogError

from .log import Fragment, Track


class Tail:
    """A reader of a log's folder, which need not exist yet. Takes no lock, changes nothing.

    tracks: those seen so far. LogError from `news` where the log was begun anew: what was read is no longer part of it.
    """

    def __init__(self, folder: Path) -> None:
        self.tracks: dict[str, Track] = {}
        self._folder = folder
        self._index = folder / "index.jsonl"
        self._inode: int | None = None
        self._offset = 0

    def news(self) -> list[Track | Fragment]:
        """The tracks and fragments published since the last call, in order. Fragments of incomplete segments are among them."""
        try:
            with self._index.open("rb") as file:
                self._same(self._index.stat().st_ino)
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        found = [self._parse(line) for line in whole.splitlines()]
        return [item for item in found if item is not None]

    def read(self, fragment: Fragment) -> bytes:
        """A fragment's bytes; LogError where they are damaged or gone."""
        return b"".join(self.parts(fragment, fragment.size))

    def parts(self, fragment: Fragment, size: int) -> Iterator[bytes]:
        """A fragment's bytes, at most `size` at once; LogError where they are damaged or gone, before the last of them."""
        at, end, checksum = 0, fragment.size, 0
        while True:
            data = self._part(fragment, at, min(size, end - at))
            at, checksum = at + len(data), google_crc32c.extend(checksum, data)
            if (at >= end and checksum != fragment.crc32c) or (at < end and not data):
                raise LogError(f"segment {fragment.segment} of track {fragment.track} is damaged or gone")
            yield data
            if at >= end:
                return

    def _part(self, fragment: Fragment, at: int, size: int) -> bytes:
        """Opened anew for each, so that a reader who takes his time holds nothing."""
        try:
            with (self._folder / self.tracks[fragment.track].file).open("rb") as file:
                file.seek(len(self.tracks[fragment.track].init) + fragment.offset + at)
                return file.read(size)
        except FileNotFoundError as error:
            raise LogError("the log is gone; its job was deleted, or begun anew") from error

    def _same(self, inode: int) -> None:
        if self._inode is not None and inode != self._inode:
            raise LogError("the log was begun anew with other settings; read it from its beginning")
        self._inode = inode

    def _parse(self, line: bytes) -> Track | Fragment | None:
        match json.loads(line):
            case {"track": record}:
                restored = {"time_base": Fraction(record["time_base"]), "init": bytes.fromhex(record["init"])}
                track = Track(**{**record, **restored})
                self.tracks[track.name] = track
                return track
            case {"fragment": record}:
                return Fragment(**record)
        return None
