"""A log in pieces that are kept elsewhere: cut from its folder while it grows, and written into another one.

A piece is a line of JSON with its checksum, whole lines of the log's index, and the bytes of the fragments among these, in their
order. Pieces one behind the other are a log as a crash between two records leaves it, so that any first ones of them are resumed.
"""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

import google_crc32c

from upres.engine.core.errors import LogError

from .model import DAMAGED, Fragment, Track
from .tail import PIECE, Tail
from .whole_file import sync_folder

HEAD = 256  # bytes of the longest line of a piece's checksum
CHUNK = 1 << 20  # bytes that are read at once
DIFFERS = "a piece of the log is damaged"


@dataclass(frozen=True, slots=True)
class Piece:
    """start, end: of its records in the index, in bytes. size: of all of it. chunks: yields it; LogError where it is damaged."""

    start: int
    end: int
    size: int
    chunks: Callable[[], Iterator[bytes]]


class Cutter(Tail):
    """Cuts a log into pieces, from a place in its index on. Raises LogError where it is damaged, or was restarted."""

    def __init__(self, folder: Path, start: int = 0) -> None:
        super().__init__(folder)
        self._start = start

    def next(self, most: int) -> Piece | None:
        """Cut the next piece of about `most` bytes, the same until it is taken; None where nothing more is published."""
        self._skip()
        lines: list[bytes] = []
        fragments: list[Fragment] = []
        size, read = 0, self._piece()
        for line in read[: read.rfind(b"\n") + 1].splitlines(keepends=True):
            lines.append(line)
            news = [item for item in self.parsed(line) if isinstance(item, Fragment)]
            fragments += news
            size += sum(fragment.size for fragment in news)
            if size >= most:
                break
        if not lines:
            if len(read) == PIECE:
                raise LogError(f"{self._index} is damaged (a line of more than {PIECE} bytes)")
            return None
        text = b"".join(lines)
        head = json.dumps({"crc32c": google_crc32c.value(text)}).encode() + b"\n" + text
        chunks = partial(self._chunks, head, fragments)
        return Piece(self._offset, self._offset + len(text), len(head) + size, chunks)

    def advance(self, piece: Piece) -> None:
        """Go on behind a piece."""
        self._offset = piece.end

    def _skip(self) -> None:
        """Read the tracks of what was cut before."""
        while self._offset < self._start:
            read = self._piece()[: self._start - self._offset]
            lines = read[: read.rfind(b"\n") + 1]
            if not lines:
                raise LogError("the log was restarted: it is shorter than what was read of it")
            self.parsed(lines)
            self._offset += len(lines)

    def _chunks(self, head: bytes, fragments: list[Fragment]) -> Iterator[bytes]:
        yield head
        for fragment in fragments:
            yield from self.parts(fragment, CHUNK)


def records(data: bytes, length: int) -> tuple[bytes, int]:
    """Give the lines of a piece, by its first bytes, HEAD and `length` of them or all there are, and where what follows begins.

    length: of these lines. Raises LogError where they are damaged.
    """
    line, _, rest = data.partition(b"\n")
    lines = rest[:length]
    try:
        checksum = json.loads(line)["crc32c"]
    except DAMAGED as error:
        raise LogError(DIFFERS) from error
    if len(lines) != length or google_crc32c.value(lines) != checksum:
        raise LogError(DIFFERS)
    return lines, len(line) + 1 + length


class PieceWriter(Tail):
    """A log written from pieces, in order, into a folder that is made for it. Each is added whole, or not at all."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._ends: dict[str, int] = {}  # of each track's fragments
        folder.mkdir(parents=True)

    def add(self, path: Path, length: int) -> None:
        """Add a piece that lies in a file. length: of its records. Raises LogError where it is damaged."""
        with path.open("rb") as file:
            lines, at = records(file.read(HEAD + length), length)
            file.seek(at)
            for item in self.parsed(lines):
                if isinstance(item, Track):
                    (self._folder / item.file).write_bytes(item.init)
                    self._ends[item.name] = 0
                else:
                    self._copy(file, item)
        with self._index.open("ab") as index:
            index.write(lines)

    def _copy(self, file: IO[bytes], fragment: Fragment) -> None:
        """Copy a fragment to where its record says that it lies."""
        if (track := self.tracks.get(fragment.track)) is None or fragment.offset != self._ends[track.name]:
            raise LogError(DIFFERS)
        left, checksum = fragment.size, 0
        with (self._folder / track.file).open("r+b") as target:
            target.seek(len(track.init) + fragment.offset)
            while left and (data := file.read(min(left, CHUNK))):
                target.write(data)
                left, checksum = left - len(data), google_crc32c.extend(checksum, data)
        if left or checksum != fragment.crc32c:
            raise LogError(DIFFERS)
        self._ends[track.name] += fragment.size

    def sync(self) -> None:
        """Let what was added survive a power cut."""
        for path in self._folder.iterdir():
            with path.open("rb") as file, suppress(OSError):
                os.fsync(file.fileno())
        sync_folder(self._folder)
