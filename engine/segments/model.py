"""What a segment log holds: tracks and their fragments, append-only, readable while it grows.

A segment is complete once its last fragment is in the log. Fragments of an incomplete segment stay, because a reader may have
seen them already. `MemoryLog` and `FolderLog` keep a log in memory and on disk.
"""

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Protocol

from upres.engine.core.errors import LogError

DAMAGED = (ArithmeticError, AttributeError, IndexError, KeyError, RecursionError, TypeError, ValueError)
"""What reading a record raises that is none: not of its shape, a fraction over 0, nested too deep."""
NAMES = re.compile(r"[a-z]{1,16}[0-9]{0,4}")


@dataclass(frozen=True, slots=True)
class Track:
    """One track of the result.

    name: video, audio0, …; a log from elsewhere may not name another file.
    start: ticks to add to the log's times, which start at 0 or later.
    init: the header that every fragment of this track plays behind. language, disposition: as in the source.
    container: libavformat's name of the format of header and fragments; not mp4 only where MP4 has no mapping for the codec.
    """

    name: str
    codec: str
    time_base: Fraction
    start: int
    init: bytes
    language: str | None = None
    disposition: int = 0
    container: str = "mp4"

    def __post_init__(self) -> None:
        if not NAMES.fullmatch(self.name) or not NAMES.fullmatch(self.container):
            raise LogError(f"a track cannot be called {self.name!r} in {self.container!r}: letters, then digits")

    @property
    def file(self) -> str:
        """The name of its file in a folder."""
        return f"{self.name}.{'mkv' if self.container == 'matroska' else self.container}"


@dataclass(frozen=True, slots=True)
class Fragment:
    """One published piece of a track.

    segment, number: its cursor. pts, duration: ticks of the track's time base. frames: video frames or audio packets in it.
    independent: starts with a key frame. last: ends its segment. shot: starts a new shot.
    offset, size: where its bytes lie behind the init section. crc32c: of its bytes.
    """

    track: str
    segment: int
    number: int
    pts: int
    duration: int
    frames: int
    independent: bool = True
    last: bool = True
    shot: bool = False
    offset: int = 0
    size: int = 0
    crc32c: int = 0

    def __post_init__(self) -> None:
        """Raise ValueError where a file would be read from no place, or to its end: a hostile attempt may send that."""
        if not all(isinstance(number, int) and number >= 0 for number in (self.offset, self.size)):
            raise ValueError(f"a fragment of {self.size} bytes at {self.offset}")

    @property
    def cursor(self) -> tuple[int, int]:
        """Its place in the track; rises from fragment to fragment."""
        return self.segment, self.number


class Log(Protocol):
    """Any segment log, wherever it is kept."""

    header: dict[str, Any]
    tracks: dict[str, Track]
    extras: list[dict[str, Any]]

    def add_track(self, track: Track) -> None:
        """Start a track; LogError where the log has it already with another init section."""
        ...

    def append(self, fragment: Fragment, data: bytes) -> Fragment:
        """Publish a fragment, which then survives a crash; return it with offset, size and checksum."""
        ...

    def note(self, extra: dict[str, Any]) -> None:
        """Keep a record that belongs to no track, such as a subtitle packet."""
        ...

    def fragments(self, track: str) -> list[Fragment]:
        """Return the fragments of a track so far; none for an unknown track."""
        ...

    def read(self, fragment: Fragment) -> bytes:
        """Return a fragment's bytes; LogError where they are damaged."""
        ...

    def close(self) -> None:
        """Release files and locks; what was published stays."""
        ...
