"""Detection of still images among sources, by content rather than by name."""

from collections.abc import Iterable
from contextlib import closing, suppress
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

import av
from PIL import Image
from rich.filesize import decimal

from upres.engine.core.errors import SourceError
from upres.engine.decode.container import MOST_PIXELS, open_container
from upres.engine.decode.source import Readable, kind_of

from .file import READ, WEB, moves, opened
from .formats import FORMATS, JPEG, Format, is_image_name

PIECE = 1 << 16  # bytes per read
BEGINNING = 16  # bytes from which Pillow recognizes a format
# Maximum size of an image in a stream, which is read into memory: RGBA of 16 bits, and metadata.
MOST_BYTES = 8 * MOST_PIXELS + (64 << 20)
BY_NAME = {kind.name: kind for kind in FORMATS.values()} | {"MPO": JPEG}
"""Formats by Pillow's name. MPO, which cameras write, is a JPEG followed by previews."""


def still_format(source: str | Path) -> Format | None:
    """Return the format of a source that is a single still image; None for any other source.

    A file that cannot be opened is classified by its name, so that reading it reports the problem. Web addresses are examined only
    if they have the name of an image.
    """
    kind, name = kind_of(source), Path(urlsplit(str(source)).path) if kind_of(source) in WEB else Path(source)
    named = is_image_name(name)
    if kind not in ("file", *WEB) or (kind in WEB and not named) or (kind == "file" and not _is_readable(source)):
        return FORMATS[name.suffix.lower()] if named and kind == "file" else None
    with suppress(SourceError, OSError):
        if not named and not _begins_as_image(Path(source)):
            return None
        with opened(str(source), source) as image:
            image_format = None if moves(image) else BY_NAME[str(image.format)]
        single = named or image_format is None or _is_single(str(Path(source).absolute()))
        return image_format if single else None
    return FORMATS[name.suffix.lower()] if named else None


def still_in(stream: Readable) -> tuple[Format | None, bytes, bool]:
    """Examine a stream; return its format if it is a single still image, the bytes read so far, and whether these are all.

    If the stream does not begin as an image, only its first bytes are read; if it holds several images, up to the second.
    """
    recorded = _Recorded(stream)
    recorded.fill(BEGINNING)
    if not _is_beginning(bytes(recorded.data)):
        return None, bytes(recorded.data), False
    replayed = _Recorded(stream, recorded.data)
    kind = None
    with suppress(SourceError):
        if _is_single(replayed):
            replayed.fill(MOST_BYTES + 1)
            with opened("the source", BytesIO(replayed.data)) as image:
                kind = None if moves(image) else BY_NAME[str(image.format)]
    return kind, bytes(replayed.data), replayed.ended


class _Recorded:
    """A stream that keeps the bytes read from it. data: bytes read so far; those passed in are read again first."""

    def __init__(self, stream: Readable, data: bytes | bytearray = b"") -> None:
        self._stream = stream
        self._replay = BytesIO(bytes(data))
        self.data = bytearray(data)
        self.ended = False

    def read(self, size: int, /) -> bytes:
        if replayed := self._replay.read(size):
            return replayed
        if len(self.data) > MOST_BYTES:
            raise SourceError(f"the source: an image of more than {decimal(MOST_BYTES)} is not read from a stream")
        data = self._stream.read(size)
        self.data += data
        self.ended = not data
        return data

    def fill(self, size: int) -> None:
        while len(self.data) < size and self.read(min(PIECE, size - len(self.data))):
            pass


def _is_readable(path: str | Path) -> bool:
    """Report whether a path is a regular file. Opening a pipe could block, and would consume its data."""
    with suppress(OSError):
        return Path(path).is_file()
    return False


def _begins_as_image(path: Path) -> bool:
    with path.open("rb") as file:
        return _is_beginning(file.read(BEGINNING))


def _is_beginning(data: bytes) -> bool:
    """Report whether a file with these first bytes may be an image of an accepted format."""
    Image.init()
    accepts = (Image.OPEN[name][1] for name in READ)
    return any(accept is not None and bool(accept(data)) for accept in accepts)


def _is_single(file: str | Readable | IO[bytes]) -> bool:
    """Report whether a file is a single image, rather than several in sequence, as cameras write and programs pipe them."""
    options = {"pattern_type": "none"} if isinstance(file, str) else None
    with (
        suppress(av.FFmpegError),
        closing(open_container("the source", file, None, live=False, settings=options)) as container,
    ):
        packets: Iterable[object] = (packet for packet in container.demux(video=0) if packet.size)
        return len(list(islice(packets, 2))) == 1
    return True  # formats that libavformat cannot demux are addressed by offsets, so that no second image can follow
