"""Assembly of a file from the parts of a stream: a local copy of the segment log, joined in the same way as on the server."""

import tempfile
from fractions import Fraction
from pathlib import Path

from upres.engine.core.errors import TargetError
from upres.engine.encode.join.file import container_for, join
from upres.engine.segments.folder import FolderLog
from upres.engine.segments.model import Fragment, Track
from upres.v2 import upscale_pb2 as pb


def container_of(target: Path) -> str:
    """Return the container format of a file name; raises TargetError if it does not support a server's codecs."""
    container = container_for(target)
    if container == "webm":
        raise TargetError(
            f"{target}: a server's result is H.264 or HEVC, which WebM does not support; name it .mp4, .mov or .mkv"
        )
    return container


class Assembly:
    """Context manager that stores tracks and fragments in a folder next to the target, and removes the folder at its end.

    overwrite: replace a file that has appeared under the target's name in the meantime.
    """

    def __init__(self, target: Path, *, overwrite: bool = True) -> None:
        self._target = target
        self._overwrite = overwrite
        self._container = container_of(target)
        self._folder = tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent)
        self._log = FolderLog(Path(self._folder.name) / "log", {})

    def __enter__(self) -> "Assembly":
        return self

    def __exit__(self, *_: object) -> None:
        self._log.close()
        self._folder.cleanup()

    @property
    def frames(self) -> int:
        """The number of video frames stored so far."""
        return sum(fragment.frames for fragment in self._log.fragments("video"))

    def add_track(self, track: pb.TrackInit) -> None:
        """Add a track."""
        self._log.add_track(track_of(track))

    def append(self, fragment: pb.Fragment) -> None:
        """Append the next complete fragment of a track."""
        self._log.append(fragment_of(fragment), fragment.data)

    def join(self) -> None:
        """Write the target, which appears under its name only when it is complete; raises TargetError if that fails."""
        if self._target.exists() and not self._overwrite:
            raise TargetError(f"{self._target}: was created by another program in the meantime, and is not replaced")
        join(self._log, self._target, self._container)


def track_of(track: pb.TrackInit) -> Track:
    """Convert a track message to a track of the log."""
    time_base = Fraction(track.time_base_numerator, track.time_base_denominator)
    language = track.language or None
    return Track(track.track, track.codec, time_base, track.start, track.init, language, track.disposition)


def fragment_of(fragment: pb.Fragment) -> Fragment:
    """Convert a fragment message to a fragment of the log, without its bytes."""
    return Fragment(
        fragment.track,
        fragment.segment,
        fragment.fragment,
        fragment.pts,
        fragment.duration,
        fragment.frames,
        independent=fragment.independent,
        last=fragment.last_in_segment,
    )
