"""A segment log read while another process writes it."""

import json
from fractions import Fraction
from pathlib import Path

import google_crc32c

from .errors import LogError
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
        try:
            with (self._folder / self.tracks[fragment.track].file).open("rb") as file:
                file.seek(len(self.tracks[fragment.track].init) + fragment.offset)
                data = file.read(fragment.size)
        except FileNotFoundError as error:
            raise LogError("the log is gone; its job was deleted, or begun anew") from error
        if google_crc32c.value(data) != fragment.crc32c:
            raise LogError(f"segment {fragment.segment} of track {fragment.track} is damaged or gone")
        return data

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
