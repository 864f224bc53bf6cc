"""Standard input as one of the inputs, whose kind is detected from its first bytes."""

from dataclasses import dataclass
from io import BytesIO, RawIOBase
from typing import IO

from upres.engine.core.errors import SourceError
from upres.engine.decode.source import Readable
from upres.engine.images.formats import Format
from upres.engine.images.recognize import still_in
from upres.service.cli.stdio import stdin


@dataclass(frozen=True, slots=True)
class Piped:
    """Standard input. image: its format if it is a still image. source: what the engine reads, which can be read only once."""

    image: Format | None
    source: IO[bytes] | Readable

    @classmethod
    def look(cls) -> "Piped":
        """Detect whether standard input is a still image, which is read whole; of other input only the first bytes are read.

        Raises SourceError if it is empty.
        """
        stream = stdin()
        seekable = stream.seekable()
        start = stream.tell() if seekable else 0
        image, head, whole = still_in(stream)
        if not head:
            raise SourceError("standard input: is empty; pipe a video in: cat in.mp4 | upres - out.mp4")
        if whole:
            return cls(image, BytesIO(head))
        if seekable:
            stream.seek(start)
            return cls(image, stream)
        return cls(image, _Replayed(head, stream))


class _Replayed:
    """A stream that returns the bytes already read first, then the rest."""

    def __init__(self, head: bytes, rest: RawIOBase) -> None:
        self._head, self._rest = BytesIO(head), rest

    def fileno(self) -> int:
        return self._rest.fileno()

    def read(self, size: int, /) -> bytes:
        return self._head.read(size) or self._rest.read(size) or b""
