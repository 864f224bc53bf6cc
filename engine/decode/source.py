"""What can be read from: a path, a seekable file, or bytes that are still arriving. Knows containers only as far as MP4's order."""

import io
import re
import shutil
import tempfile
from pathlib import Path
from typing import IO, Protocol

from upres.engine.core.errors import SourceError, TargetError, os_errors_as

PROBE_LIMIT = 64 * 1024 * 1024  # bytes before an MP4's index that are kept in memory while it is looked for


class Readable(Protocol):
    """Bytes in order: at most `size` of them, empty at the end. May block while they are still arriving."""

    def read(self, size: int, /) -> bytes: ...  # noqa: D102


Source = str | Path | Readable


def opened(source: Source, *, spool: bool = True) -> tuple[str | IO[bytes] | Readable, IO[bytes] | None]:
    """What libavformat can open, and the temporary file to close afterwards, if the source had to be spooled into one.

    An MP4 whose index lies behind its media cannot be decoded while it arrives, so such a stream is spooled first.
    Raises SourceError where there is no such file, it is empty, or it would have to be spooled and may not be; TargetError
    where the temporary folder cannot hold it.
    """
    if isinstance(source, str | Path):
        return _file(source), None
    seekable = getattr(source, "seekable", None)
    if seekable is not None and seekable():
        return source, None
    head, late = peek(source)
    if not head:
        raise SourceError("the stream ended before its first byte")
    stream = _Joined(head, source)
    if not late:
        return stream, None
    if not spool:
        raise SourceError(
            "this MP4's index lies behind its media, so it cannot be upscaled live; "
            "send fragmented MP4, MPEG-TS or Matroska"
        )
    with os_errors_as(tempfile.gettempdir(), TargetError):
        file = tempfile.TemporaryFile(prefix="upres-")  # noqa: SIM115 - closed by the reader
        shutil.copyfileobj(stream, file)
        file.seek(0)
    return file, file


def refuse_url(source: str | Path) -> None:
    """SourceError for what names a place on the network."""
    if isinstance(source, str) and re.match(r"[a-zA-Z][a-zA-Z0-9+.-]+://", source):
        raise SourceError(
            f"{source}: URLs are not taken; download it first, or pipe it in: curl -L '{source}' | upres - out.mp4"
        )


def _file(source: str | Path) -> str:
    refuse_url(source)
    path = Path(source)
    with os_errors_as(path, SourceError):
        if not path.is_file():
            raise SourceError(f"{path}: {'is not a file' if path.exists() else 'no such file'}")
        if not path.stat().st_size:
            raise SourceError(f"{path}: the file is empty")
    return str(path.absolute())  # or a colon in a name would make it a protocol


def peek(source: Readable) -> tuple[bytes, bool]:
    """The first bytes of a stream, and whether they are an MP4 whose media comes before its index."""
    head = io.BytesIO()
    _fill(head, source, 12)
    if head.getvalue()[4:8] not in (b"ftyp", b"wide", b"mdat", b"free", b"skip"):
        return head.getvalue(), False
    at = 0
    while at < PROBE_LIMIT:
        _fill(head, source, at + 16)
        box = head.getvalue()[at : at + 16]
        size, kind = int.from_bytes(box[:4], "big"), box[4:8]
        if len(box) < 8 or kind in (b"moov", b"moof"):
            return head.getvalue(), False
        if kind == b"mdat":
            return head.getvalue(), True
        at += int.from_bytes(box[8:16], "big") if size == 1 else max(size, 8)
    return head.getvalue(), True


def _fill(head: io.BytesIO, source: Readable, size: int) -> None:
    head.seek(0, io.SEEK_END)
    while head.tell() < size and (chunk := _read(source, size - head.tell())):
        head.write(chunk)


def _read(source: Readable, size: int) -> bytes:
    try:
        data = source.read(size)
    except OSError as error:
        raise SourceError(f"the stream cannot be read ({error.strerror or error})") from error
    if len(data) > size:  # PyAV would write it behind the end of its buffer
        raise SourceError(
            f"the stream gave {len(data)} bytes when asked for {size}; its `read` must give at most as many"
        )
    return data


class _Joined:
    """The bytes already taken from a stream, then the rest of it."""

    def __init__(self, head: bytes, rest: Readable) -> None:
        self._head = io.BytesIO(head)
        self._rest = rest

    def read(self, size: int = 65536, /) -> bytes:
        return self._head.read(size) or _read(self._rest, size)
