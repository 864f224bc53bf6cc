"""The ring of a live log, and fragments to put into it."""

from fractions import Fraction

from upres.engine.segments.model import Fragment, Track
from upres.service.live.piece import Piece
from upres.service.live.ring import Ring

TRACKS = {name: Track(name, "h264", Fraction(1, 10), 0, b"init") for name in ("video", "audio0")}


LENGTH = 4  # frames per segment


def picture(number, size=10):
    segment, at = divmod(number, LENGTH)
    fragment = Fragment("video", segment, at, number, 1, 1, independent=at == 0, last=at == LENGTH - 1, size=size)
    return Piece(fragment, bytes(size))


def sound(number, size=3):
    return Piece(Fragment("audio0", number, 0, number, 1, 5, size=size), bytes(size))


def ring(*, most_bytes=10_000, most_seconds=1000.0, holds=False):
    log = Ring(most_bytes=most_bytes, most_seconds=most_seconds, holds=holds)
    for track in TRACKS.values():
        log.add_track(track)
    return log


def read_all(place):
    return list(iter(place.next, None))


def numbers(items):
    return [item.fragment.pts for item in items if isinstance(item, Piece) and item.fragment.track == "video"]
