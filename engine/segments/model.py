"""Contents and interface of a segment log: tracks and their fragments, append-only, readable while they are written.

A segment is complete once its last fragment is in the log. Fragments of an incomplete segment stay, because a reader may have
seen them already. `MemoryLog` keeps a log in memory, `FolderLog` on disk.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Protocol

from upres.engine.core.errors import LogError

DAMAGED = (ArithmeticError, AttributeError, IndexError, KeyError, RecursionError, TypeError, ValueError)
"""Exceptions that parsing a malformed record can raise: wrong structure, a fraction with denominator 0, nesting too deep."""
NAMES = re.compile(r"[a-z]{1,16}[0-9]{0,4}")


@dataclass(frozen=True, slots=True)
class Track:
    """One track of the result.

    name: video, audio0, …; restricted, so that an untrusted log cannot name a file outside its folder.
    start: ticks to add to the log's times, which start at 0 or later.
    init: the header that must precede the fragments of this track for playback. language, disposition: as in the source.
    container: libavformat's name of the format of header and fragments; mp4 unless MP4 has no mapping for the codec.
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
            raise LogError(
                f"invalid track name {self.name!r} or container {self.container!r}: lowercase letters, then digits"
            )

    @property
    def file(self) -> str:
        """Name of the track's file in a log folder."""
        return f"{self.name}.{'mkv' if self.container == 'matroska' else self.container}"


@dataclass(frozen=True, slots=True)
class Fragment:
    """One published piece of a track.

    segment, number: its cursor. pts, duration: ticks of the track's time base. frames: number of video frames or audio packets.
    independent: starts with a keyframe. last: ends its segment. shot: starts a new shot.
    offset, size: position of its bytes, counted from the end of the init section. crc32c: checksum of its bytes.
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
        """Raise ValueError for a negative or non-integer offset or size, which a hostile worker could send."""
        if not all(isinstance(number, int) and number >= 0 for number in (self.offset, self.size)):
            raise ValueError(
                f"offset and size of a fragment must be integers from 0, got {self.offset} and {self.size}"
            )

    @property
    def cursor(self) -> tuple[int, int]:
        """Position in the track; increases from fragment to fragment."""
        return self.segment, self.number


def parse(record: Mapping[str, Any]) -> Track | Fragment | None:
    """Return the track or fragment in a record of an index, None for any other record.

    Raises one of DAMAGED for a malformed record, and LogError for a track with an invalid name.
    """
    match record:
        case {"track": track}:
            restored = {"time_base": Fraction(track["time_base"]), "init": bytes.fromhex(track["init"])}
            return Track(**{**track, **restored})
        case {"fragment": fragment}:
            return Fragment(**fragment)
    return None


class Log(Protocol):
    """Interface of a segment log, regardless of where it is stored."""

    header: dict[str, Any]
    tracks: dict[str, Track]
    extras: list[dict[str, Any]]

    def add_track(self, track: Track) -> None:
        """Add a track. Raises LogError if the log already has one of this name with other properties."""
        ...

    def append(self, fragment: Fragment, data: bytes) -> Fragment:
        """Publish a fragment durably; return it with offset, size and checksum."""
        ...

    def note(self, extra: dict[str, Any]) -> None:
        """Store a record that belongs to no track, such as a subtitle packet."""
        ...

    def fragments(self, track: str) -> list[Fragment]:
        """Return the fragments of a track so far; an empty list if the track is unknown."""
        ...

    def read(self, fragment: Fragment) -> bytes:
        """Return a fragment's bytes. Raises LogError if they are damaged."""
        ...

    def close(self) -> None:
        """Release files and locks; published fragments remain."""
        ...
