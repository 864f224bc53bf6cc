"""One live run: a source, upscaled as it arrives, to all destinations."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any, Protocol

from upres.engine.core.errors import LogError, TargetError
from upres.engine.decode.live.network import PLAYLIST
from upres.engine.decode.live.paced import PacedReader
from upres.engine.decode.reader import Reader
from upres.engine.decode.source import Source, opener_for
from upres.engine.pipeline.options import Job, fitted
from upres.engine.pipeline.progress import Progress
from upres.engine.pipeline.run import run
from upres.engine.segments.model import Fragment, Track

from .destination import Destination
from .sink import Sink
from .step_down import stepping


def open_live(source: Source, *, tonemap: bool = False) -> Reader:
    """Open a live source; files and HLS are read at playback speed. Raises the same errors as Reader."""
    comes_paced = opener_for(source).live and not PLAYLIST.match(str(source))
    if comes_paced or not isinstance(source, str):
        return Reader(source, tonemap=tonemap, live=True)
    return PacedReader(source, tonemap=tonemap)


def is_recording(source: Source) -> bool:
    """Report whether a source is a file, which can be played at any time, and not one that arrives as it is recorded."""
    return isinstance(source, str) and not opener_for(source).live


class Viewer(Protocol):
    """Receiver of all results, which must not block."""

    def push(self, tracks: Mapping[str, Track], fragment: Fragment, data: bytes) -> None:
        """Receive a fragment of one of these tracks."""

    def end(self) -> None:
        """Note the end of the results."""


class LiveRun:
    """A live run. sinks: the destinations and their errors. viewer: receives all results too; the run continues for it alone."""

    def __init__(self, destinations: Sequence[Destination], viewer: Viewer | None = None) -> None:
        """Create a run without starting it."""
        self._destinations = destinations
        self._viewer = viewer
        self.sinks: list[Sink] = []

    def run(self, reader: Reader, job: Job, progress: Progress, tick: Callable[[], None] = lambda: None) -> None:
        """Upscale until the source ends. tick: called after every frame.

        Raises TargetError once all destinations have failed; until then, a failed destination does not affect the others. However
        the run ends, every destination receives all results made so far and is closed properly.
        """
        log, job = _SharedLog(self._viewer), fitted(job, reader)
        try:
            with (
                self._sinks(log),
                closing(run(reader, job, log, progress, stepping(job.models, progress, tick))) as fragments,
            ):
                for _ in fragments:
                    if self.is_useless:
                        break
        except KeyboardInterrupt:  # the usual end of a live run
            progress.warnings += reader.notes
            raise
        if self.is_useless:
            reasons = "; ".join(f"{sink.destination.name}: {sink.error}" for sink in self.sinks)
            raise TargetError(f"no destination accepts the result any more ({reasons})")

    @property
    def is_useless(self) -> bool:
        """Whether all destinations have failed and there is no viewer."""
        return self._viewer is None and all(sink.error for sink in self.sinks)

    @contextmanager
    def _sinks(self, log: "_SharedLog") -> Iterator[None]:
        self.sinks = [Sink(destination, log.tracks, log.extras) for destination in self._destinations]
        log.sinks = self.sinks
        try:
            yield
        finally:
            if self._viewer is not None:
                self._viewer.end()
            for sink in self.sinks:
                sink.end()


class _SharedLog:
    """A log that stores nothing: every fragment is passed to all destinations and to the viewer."""

    def __init__(self, viewer: Viewer | None) -> None:
        self._viewer = viewer
        self.header: dict[str, Any] = {}
        self.tracks: dict[str, Track] = {}
        self.extras: list[dict[str, Any]] = []
        self.sinks: Sequence[Sink] = ()

    def add_track(self, track: Track) -> None:
        """Add a track. Raises LogError if it exists with another init section."""
        if self.tracks.setdefault(track.name, track) != track:
            raise LogError(f"track {track.name} exists already, with another header")

    def append(self, fragment: Fragment, data: bytes) -> Fragment:
        """Pass a fragment to all destinations."""
        placed = replace(fragment, size=len(data))
        for sink in self.sinks:
            sink.push(placed, data)
        if self._viewer is not None:
            self._viewer.push(self.tracks, placed, data)
        return placed

    def note(self, extra: dict[str, Any]) -> None:
        """Keep data that belongs to no track, except subtitles, which are not carried live."""
        if "chapters" in extra:
            self.extras.append(extra)

    def fragments(self, track: str) -> list[Fragment]:
        """Return an empty list: a live log is not resumed."""
        return []

    def read(self, fragment: Fragment) -> bytes:
        """Raise LogError: nothing is stored."""
        raise LogError("a live log keeps nothing")

    def close(self) -> None:
        """Do nothing: memory needs no release."""
