"""Output that can be played while a stream is still being received: a file of a live source, or a pipe."""

from functools import cached_property
from pathlib import Path
from typing import Any

from upres.engine.live.destination import destination
from upres.engine.live.sink import Sink
from upres.engine.segments.model import Track
from upres.v2 import upscale_pb2 as pb

from .assembly import fragment_of, track_of


class Growing:
    """Writer of a stream as it is received, with the interface of `Assembly`; `join` finishes the output."""

    def __init__(self, target: Path) -> None:
        """Prepare the output; it is opened when the first part is received, so that a refused call leaves no file. -: stdout."""
        self._target = target
        self._tracks: dict[str, Track] = {}
        self._extras: list[dict[str, Any]] = [_announced(["sound0"])]  # a track that may arrive or not
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
        """Add a track; once a sound track has arrived, the output does not wait for others."""
        self._tracks[track.track] = track_of(track)
        if sound := [name for name in self._tracks if name != "video"]:
            self._extras[:] = [_announced(sound)]

    def append(self, fragment: pb.Fragment) -> None:
        """Append the next complete fragment of a track; raises TargetError if the output can no longer be written."""
        self.frames += fragment.frames * (fragment.track == "video")
        self._sink.push(fragment_of(fragment), fragment.data)
        self._raise_failure()

    def join(self) -> None:
        """Finish the output; raises TargetError if something could not be written."""
        self._sink.end()
        self._raise_failure()

    def _raise_failure(self) -> None:
        if (error := self._sink.error) is not None:
            raise type(error)(f"{'stdout' if str(self._target) == '-' else self._target}: {error}") from error


def _announced(names: list[str]) -> dict[str, Any]:
    return {"tracks": {name: {} for name in names}}
