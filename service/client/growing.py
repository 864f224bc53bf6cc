"""A file that plays while the parts of a stream are still coming: of a live source, or into a pipe."""

from fractions import Fraction
from pathlib import Path
from typing import Any

from upres.engine.live.destination import destination
from upres.engine.live.sink import Sink
from upres.engine.segments.model import Track
from upres.v2 import upscale_pb2 as pb

from .assembly import fragment_of, track_of

DECIDED_SECONDS = Fraction(
    1
)  # of picture, after which a track that has not come yet is left out: the header names them all


class Growing:
    """Writes what comes. Keeps the interface of `Assembly`; `join` writes the end."""

    def __init__(self, target: Path) -> None:
        """Begin a file, or stdout for -; errors come with `join`, and end nothing before."""
        self._tracks: dict[str, Track] = {}
        self._extras: list[dict[str, Any]] = [{"tracks": {"undecided0": {}}}]
        self._sink = Sink(destination(str(target)), self._tracks, self._extras)
        self._named: frozenset[str] | None = None
        self._waiting: list[pb.Fragment] = []
        self.frames = 0

    def __enter__(self) -> "Growing":
        return self

    def __exit__(self, *_: object) -> None:
        self._sink.end()

    def add_track(self, track: pb.TrackInit) -> None:
        """Start a track."""
        if self._named is None:
            self._tracks[track.track] = track_of(track)

    def append(self, fragment: pb.Fragment) -> None:
        """Append the next whole fragment of a track; TargetError where nothing can be written any more."""
        self.frames += fragment.frames * (fragment.track == "video")
        if self._named is None:
            self._waiting.append(fragment)
            self._decide(fragment)
        elif fragment.track in self._named:
            self._push(fragment)

    def join(self) -> None:
        """Write the end; TargetError where something could not be written."""
        self._name()
        self._sink.end()
        if self._sink.error is not None:
            raise self._sink.error

    def _decide(self, fragment: pb.Fragment) -> None:
        """Settle which tracks there are, once sound has come or enough of the picture."""
        come = {each.track for each in self._waiting}
        ticks = fragment.pts + fragment.duration
        if "video" in come and (len(come) > 1 or ticks * self._tracks["video"].time_base >= DECIDED_SECONDS):
            self._name()

    def _name(self) -> None:
        if self._named is not None:
            return
        self._named = frozenset(each.track for each in self._waiting)
        self._extras[:] = [{"tracks": {name: {} for name in self._named}}]
        for fragment in self._waiting:
            self._push(fragment)
        self._waiting.clear()

    def _push(self, fragment: pb.Fragment) -> None:
        self._sink.push(fragment_of(fragment), fragment.data)
        if self._sink.error is not None:
            raise self._sink.error
