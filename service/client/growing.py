"""A file that plays while the parts of a stream are still coming: of a live source, or into a pipe."""

from functools import cached_property
from pathlib import Path
from typing import Any

from upres.engine.live.destination import destination
from upres.engine.live.sink import Sink
from upres.engine.segments.model import Track
from upres.v2 import upscale_pb2 as pb

from .assembly import fragment_of, track_of


class Growing:
    """Writes what comes. Keeps the interface of `Assembly`; `join` writes the end."""

    def __init__(self, target: Path) -> None:
        """Begin nothing yet: a file, or stdout for -, once something has come, so that a call that is refused leaves none."""
        self._target = target
        self._tracks: dict[str, Track] = {}
        self._extras: list[dict[str, Any]] = [_announced(["sound0"])]  # which may come, or not
        self.frames = 0

    def __enter__(self) -> "Growing":
        return self

    def __exit__(self, *_: object) -> None:
        if "_sink" in vars(self):
            self._sink.end()

    @cached_property
    def _sink(self) -> Sink:
        return Sink(destination(str(self._target)), self._tracks, self._extras)

    def add_track(self, track: pb.TrackInit) -> None:
        """Start a track; no sound but what has come by now is waited for once there is some."""
        self._tracks[track.track] = track_of(track)
        if sound := [name for name in self._tracks if name != "video"]:
            self._extras[:] = [_announced(sound)]

    def append(self, fragment: pb.Fragment) -> None:
        """Append the next whole fragment of a track; TargetError where nothing can be written any more."""
        self.frames += fragment.frames * (fragment.track == "video")
        self._sink.push(fragment_of(fragment), fragment.data)
        if self._sink.error is not None:
            raise self._sink.error

    def join(self) -> None:
        """Write the end; TargetError where something could not be written."""
        self._sink.end()
        if self._sink.error is not None:
            raise self._sink.error


def _announced(names: list[str]) -> dict[str, Any]:
    return {"tracks": {name: {} for name in names}}
