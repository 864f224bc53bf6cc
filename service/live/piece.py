"""What a live log is made of, and what is read of one."""

from collections.abc import Mapping
from dataclasses import dataclass

from upres.engine.segments.model import Fragment

Cursors = Mapping[str, tuple[int, int]]  # track → segment and number of the last fragment that has arrived


@dataclass(frozen=True, slots=True)
class Piece:
    """A fragment and bytes of it, from an offset on. In a ring: all of them."""

    fragment: Fragment
    data: bytes
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Dropped:
    """Frames of a track that a reader was too slow for. fragment: the one that comes next, which is independent."""

    fragment: Fragment
    frames: int


@dataclass(frozen=True, slots=True)
class Item:
    """A piece in a ring. number: its place there. before: frames of its track before it. start, end: seconds of the source."""

    number: int
    piece: Piece
    before: int
    start: float
    end: float
