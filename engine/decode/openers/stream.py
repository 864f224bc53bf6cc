"""Byte streams as sources. An MP4 stream whose index is at its end is spooled into a temporary file."""

import io
import shutil
import tempfile

from upres.engine.core.errors import SourceError, TargetError, reason
from upres.engine.decode.header import NO_HEADER
from upres.engine.decode.source import Opened, Readable, Source

from .interruptible import Interruptible

PROBE_LIMIT = 64 << 20  # bytes that are buffered in memory in search of an MP4's index
MOST_BOXES = 1000  # before an MP4's index; muxers write about ten
STARTS = (b"ftyp", b"styp", b"wide", b"mdat", b"free", b"skip", b"sidx", b"moof")  # types of an MP4's first box


class StreamOpener:
    """Opener of byte streams. An MP4 whose index follows its media cannot be decoded while it arrives and is spooled."""

    live, reconnect = False, 0

    def open(self, source: Source, *, spool: bool) -> Opened:
        """Open a stream; its beginning is read to find an MP4's index.

        Raises SourceError if the stream is empty or must not be spooled although it has to be, TargetError if the temporary folder
        cannot hold it.
        """
        assert not isinstance(source, str) and hasattr(source, "read")
        waiting = Interruptible(source)
        try:
            return _opened(waiting, spool=spool)
        except BaseException:
            waiting.close()
            raise


def _opened(waiting: Interruptible, *, spool: bool) -> Opened:
    head, late = peek(waiting)
    if not head:
        raise SourceError("the stream ended before its first byte")
    stream = _Joined(head, waiting)
    if not late:
        return Opened(stream, close=waiting.close, interrupt=waiting.close)
    if not spool:
        raise SourceError(
            "this MP4's index comes after its media, so it cannot be upscaled live; send fragmented MP4, MPEG-TS or Matroska"
        )
    try:
        file = tempfile.TemporaryFile(prefix="upres-")  # noqa: SIM115 - closed by the reader
        shutil.copyfileobj(stream, file)
        file.seek(0)
    except OSError as error:
        raise TargetError(
            f"{tempfile.gettempdir()}: cannot hold the source, an MP4 whose index comes last ({reason(error)}); "
            "the variable TMPDIR names another folder"
        ) from error
    waiting.close()
    return Opened(file, again=True, close=file.close)


def peek(source: Readable) -> tuple[bytes, bool]:
    """Return the first bytes of a stream, and whether it is an MP4 whose media comes before its index.

    Raises SourceError if the stream begins as an MP4, but is damaged or has no index.
    """
    head = io.BytesIO()
    _fill(head, source, 12)
    if head.getvalue()[4:8] not in STARTS:
        return head.getvalue(), False
    at = 0
    for _ in range(MOST_BOXES):
        if at >= PROBE_LIMIT:
            return head.getvalue(), True
        _fill(head, source, at + 16)
        box = bytes(head.getbuffer()[at : at + 16])
        if box[4:8] == b"moof":
            raise SourceError(f"this MP4 cannot be read: {NO_HEADER}")
        if len(box) < 8 or box[4:8] == b"moov":
            return head.getvalue(), False
        size = _size(box, at)
        if box[4:8] == b"mdat":
            return head.getvalue(), True
        at += size
    raise SourceError(f"this MP4 has no index within its first {MOST_BOXES} boxes; it is damaged, or no MP4")


def _size(box: bytes, at: int) -> int:
    """Return the size of the box that begins with these bytes. Raises SourceError if it is invalid or extends to the end."""
    kind, size, least = box[4:8], int.from_bytes(box[:4], "big"), 8
    if size == 1 and len(box) == 16:
        size, least = int.from_bytes(box[8:16], "big"), 16
    if size == 0 and kind.isascii() and kind.decode().isprintable():
        raise SourceError(
            f"this MP4 has no index: its box {kind.decode()!r} extends to the end of the file; the recording is incomplete"
        )
    if size < least or not (kind.isascii() and kind.decode().isprintable()):
        raise SourceError(f"this begins as an MP4, but holds no box at byte {at}; it is damaged, or no MP4")
    return size


def _fill(head: io.BytesIO, source: Readable, size: int) -> None:
    head.seek(0, io.SEEK_END)
    while head.tell() < size and (chunk := _read(source, size - head.tell())):
        head.write(chunk)


def _read(source: Readable, size: int) -> bytes:
    try:
        data = source.read(size)
    except OSError as error:
        raise SourceError(f"the stream cannot be read ({reason(error)})") from error
    if len(data) > size:  # PyAV would write past the end of its buffer
        raise SourceError(
            f"the stream's `read` returned {len(data)} bytes; it must return at most the {size} requested"
        )
    return data


class _Joined:
    """A stream that begins with the bytes already read from it."""

    def __init__(self, head: bytes, rest: Readable) -> None:
        self._head = io.BytesIO(head)
        self._rest = rest

    def read(self, size: int = 65536, /) -> bytes:
        return self._head.read(size) or _read(self._rest, size)
