"""Transfer of a log in pieces: cut from its folder while it is written, and assembled in another folder.

A piece is a line of JSON with a checksum, some complete lines of the log's index, and the bytes of the fragments that these lines
record, in the same order. The first pieces of a log, up to any one of them, form a valid log, as a crash between two records would
leave it, so that a run can resume it.
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
from .tail import INDEX_READ, Tail
from .whole_file import sync_folder

HEAD = 256  # maximum length of a piece's first line, in bytes
CHUNK = 1 << 20  # bytes per read
DAMAGED_PIECE = "a piece of the log is damaged"


@dataclass(frozen=True, slots=True)
class Piece:
    """One piece of a log.

    start, end: byte range of its records in the index. size: total size in bytes, including the fragments.
    chunks: reads the piece and yields its bytes; raises LogError if the log is damaged in this part.
    """

    start: int
    end: int
    size: int
    chunks: Callable[[], Iterator[bytes]]


class Cutter(Tail):
    """Cuts a log into pieces, starting at a byte offset of its index. Raises LogError if the log is damaged or was restarted."""

    def __init__(self, folder: Path, start: int = 0) -> None:
        super().__init__(folder)
        self._start = start

    def next(self, most: int) -> Piece | None:
        """Return the next piece, of about `most` bytes; None if nothing more was published.

        Returns the same records again until `advance` is called.
        """
        self._skip()
        lines: list[bytes] = []
        fragments: list[Fragment] = []
        size, data = 0, self._read_index()
        for line in data[: data.rfind(b"\n") + 1].splitlines(keepends=True):
            lines.append(line)
            added = [item for item in self.parsed(line) if isinstance(item, Fragment)]
            fragments += added
            size += sum(fragment.size for fragment in added)
            if size >= most:
                break
        if not lines:
            if len(data) == INDEX_READ:
                raise LogError(f"{self._index} is damaged (a line of more than {INDEX_READ} bytes)")
            return None
        text = b"".join(lines)
        head = json.dumps({"crc32c": google_crc32c.value(text)}).encode() + b"\n" + text
        chunks = partial(self._chunks, head, fragments)
        return Piece(self._offset, self._offset + len(text), len(head) + size, chunks)

    @property
    def emptied(self) -> bool:
        """Whether the fragments were deleted and only the index is left, as of a range that was merged."""
        return any(not (self._folder / track.file).exists() for track in self.tracks.values())

    def advance(self, piece: Piece) -> None:
        """Continue after a piece."""
        self._offset = piece.end

    def _skip(self) -> None:
        """Advance to the start offset, and register the tracks recorded before it."""
        while self._offset < self._start:
            data = self._read_index()[: self._start - self._offset]
            lines = data[: data.rfind(b"\n") + 1]
            if not lines:
                raise LogError("the log was restarted: it is shorter than the part already read")
            self.parsed(lines)
            self._offset += len(lines)

    def _chunks(self, head: bytes, fragments: list[Fragment]) -> Iterator[bytes]:
        yield head
        for fragment in fragments:
            yield from self.parts(fragment, CHUNK)


def records(data: bytes, length: int) -> tuple[bytes, int]:
    """Return the index lines of a piece, and the offset of the fragment data that follows them.

    data: the piece's first HEAD + `length` bytes, or all of it if it is shorter. length: size of the index lines in bytes.
    Raises LogError if they are damaged.
    """
    line, _, rest = data.partition(b"\n")
    lines = rest[:length]
    try:
        checksum = json.loads(line)["crc32c"]
    except DAMAGED as error:
        raise LogError(DAMAGED_PIECE) from error
    if len(lines) != length or google_crc32c.value(lines) != checksum:
        raise LogError(DAMAGED_PIECE)
    return lines, len(line) + 1 + length


class PieceWriter(Tail):
    """Writes a log from consecutive pieces into a new folder. Each piece is added completely or not at all."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._ends: dict[str, int] = {}  # by track: offset at which the next fragment must start
        folder.mkdir(parents=True)

    def add(self, path: Path, length: int) -> None:
        """Add the piece in a file. length: size of its index lines in bytes. Raises LogError if the piece is damaged."""
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
        """Copy a fragment to the offset in its record."""
        if (track := self.tracks.get(fragment.track)) is None or fragment.offset != self._ends[track.name]:
            raise LogError(DAMAGED_PIECE)
        remaining, checksum = fragment.size, 0
        with (self._folder / track.file).open("r+b") as target:
            target.seek(len(track.init) + fragment.offset)
            while remaining and (data := file.read(min(remaining, CHUNK))):
                target.write(data)
                remaining, checksum = remaining - len(data), google_crc32c.extend(checksum, data)
        if remaining or checksum != fragment.crc32c:
            raise LogError(DAMAGED_PIECE)
        self._ends[track.name] += fragment.size

    def sync(self) -> None:
        """Flush all added pieces to disk, so that they survive a power failure."""
        for path in filter(Path.is_file, self._folder.iterdir()):
            with path.open("rb") as file, suppress(OSError):
                os.fsync(file.fileno())
        sync_folder(self._folder)
