"""What a source is, by what is in it and not by its name: one image that does not move, or something else."""

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

PIECE = 1 << 16  # bytes that are read at once
BEGINNING = 16  # bytes by which Pillow knows a format
MOST_BYTES = 8 * MOST_PIXELS + (
    64 << 20
)  # of an image in a stream, which is held in memory: 16 bits, alpha, what lies beside
BY_NAME = {kind.name: kind for kind in FORMATS.values()} | {"MPO": JPEG}
"""By Pillow's name; MPO is what cameras write: a JPEG with previews behind it."""


def still_format(source: str | Path) -> Format | None:
    """Return the format of a source that is one image which does not move; None for all else.

    What cannot be opened is what its name says; reading it says what is wrong. On the web, too, only what is named as an image is
    looked at.
    """
    kind, name = kind_of(source), Path(urlsplit(str(source)).path) if kind_of(source) in WEB else Path(source)
    named = is_image_name(name)
    if kind not in ("file", *WEB) or (kind in WEB and not named) or (kind == "file" and not _is_readable(source)):
        return FORMATS[name.suffix.lower()] if named and kind == "file" else None
    with suppress(SourceError, OSError):
        if not named and not _begins_as_image(Path(source)):
            return None
        with opened(str(source), source) as image:
            found = None if moves(image) else BY_NAME[str(image.format)]
        return found if named or found is None or _is_alone(str(Path(source).absolute())) else None
    return FORMATS[name.suffix.lower()] if named else None


def still_in(stream: Readable) -> tuple[Format | None, bytes, bool]:
    """Look at a stream; gives its format if it is one image which does not move, what was read for that, and if that is all of it.

    A stream that does not begin as an image is read no further, one of several images as far as the second.
    """
    recorded = _Recorded(stream)
    recorded.fill(BEGINNING)
    if not _is_beginning(bytes(recorded.taken)):
        return None, bytes(recorded.taken), False
    replayed = _Recorded(stream, recorded.taken)
    found = None
    with suppress(SourceError):
        if _is_alone(replayed):
            replayed.fill(MOST_BYTES + 1)
            with opened("the source", BytesIO(replayed.taken)) as image:
                found = None if moves(image) else BY_NAME[str(image.format)]
    return found, bytes(replayed.taken), replayed.ended


class _Recorded:
    """A stream, and all that was read of it. taken: what of it was read already, which is read again."""

    def __init__(self, stream: Readable, taken: bytes | bytearray = b"") -> None:
        self._stream = stream
        self._again = BytesIO(bytes(taken))
        self.taken = bytearray(taken)
        self.ended = False

    def read(self, size: int, /) -> bytes:
        if again := self._again.read(size):
            return again
        if len(self.taken) > MOST_BYTES:
            raise SourceError(f"the source: an image of more than {decimal(MOST_BYTES)} is not read from a stream")
        data = self._stream.read(size)
        self.taken += data
        self.ended = not data
        return data

    def fill(self, size: int) -> None:
        while len(self.taken) < size and self.read(min(PIECE, size - len(self.taken))):
            pass


def _is_readable(path: str | Path) -> bool:
    """Tell whether a path is a file: opening a pipe would wait, and take from it what is read."""
    with suppress(OSError):
        return Path(path).is_file()
    return False


def _begins_as_image(path: Path) -> bool:
    with path.open("rb") as file:
        return _is_beginning(file.read(BEGINNING))


def _is_beginning(data: bytes) -> bool:
    """Tell whether a file that begins so may be an image of a format that is read."""
    Image.init()
    accepts = (Image.OPEN[name][1] for name in READ)
    return any(accept is not None and bool(accept(data)) for accept in accepts)


def _is_alone(file: str | Readable | IO[bytes]) -> bool:
    """Tell whether a file is one image, rather than several one after the other, as cameras write and programs pipe them."""
    options = {"pattern_type": "none"} if isinstance(file, str) else None
    with (
        suppress(av.FFmpegError),
        closing(open_container("the source", file, None, live=False, settings=options)) as container,
    ):
        packets: Iterable[object] = (packet for packet in container.demux(video=0) if packet.size)
        return len(list(islice(packets, 2))) == 1
    return True  # of a format that is found by its places, in which none follows another
