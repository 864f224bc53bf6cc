"""The elements of a live log, and what its readers receive."""

from collections.abc import Mapping
from dataclasses import dataclass

from upres.engine.segments.model import Fragment

Cursors = Mapping[str, tuple[int, int]]  # track → segment and number of the last fragment received


@dataclass(frozen=True, slots=True)
class Piece:
    """A fragment and its bytes from an offset on; in a ring, all of them."""

    fragment: Fragment
    data: bytes
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Dropped:
    """Frames of a track that a slow reader has missed. fragment: the next one, which is independent."""

    fragment: Fragment
    frames: int


@dataclass(frozen=True, slots=True)
class Item:
    """A piece in a ring. number: its position. before: frames of its track before it. start, end: seconds of the source."""

    number: int
    piece: Piece
    before: int
    start: float
    end: float
