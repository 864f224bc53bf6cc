"""One live run: a source as it comes, to all destinations."""

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
    """Open a live source; a file, and HLS, is read at the pace at which it is shown. Errors as of any reader."""
    comes_paced = opener_for(source).live and not PLAYLIST.match(str(source))
    if comes_paced or not isinstance(source, str):
        return Reader(source, tonemap=tonemap, live=True)
    return PacedReader(source, tonemap=tonemap)


class Viewer(Protocol):
    """Who sees what is made, and never holds it up."""

    def push(self, tracks: Mapping[str, Track], fragment: Fragment, data: bytes) -> None:
        """Take a fragment of one of these tracks."""

    def end(self) -> None:
        """Take notice that no more comes."""


class LiveRun:
    """sinks: the destinations, each with its error, if it has one. viewer: sees it all as well; the run goes on for it alone."""

    def __init__(self, destinations: Sequence[Destination], viewer: Viewer | None = None) -> None:
        """Begin nothing yet."""
        self._destinations = destinations
        self._viewer = viewer
        self.sinks: list[Sink] = []

    def run(self, reader: Reader, job: Job, progress: Progress, tick: Callable[[], None] = lambda: None) -> None:
        """Upscale until the source ends. tick: called after every frame.

        Raises TargetError once no destination takes anything more; one that fails before that costs itself alone. Whatever ends
        it, every destination gets all that was made, and its end.
        """
        log, job = _SharedLog(self._viewer), fitted(job, reader)
        with (
            self._sinks(log),
            closing(run(reader, job, log, progress, stepping(job.models, progress, tick))) as fragments,
        ):
            for _ in fragments:
                if self.in_vain:
                    break
        if self.in_vain:
            reasons = "; ".join(f"{sink.destination.name}: {sink.error}" for sink in self.sinks)
            raise TargetError(f"nothing takes the result any more ({reasons})")

    @property
    def in_vain(self) -> bool:
        """Tell whether nobody takes the result any more."""
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
    """A log that keeps nothing: every fragment goes to every destination, and to the viewer."""

    def __init__(self, viewer: Viewer | None) -> None:
        self._viewer = viewer
        self.header: dict[str, Any] = {}
        self.tracks: dict[str, Track] = {}
        self.extras: list[dict[str, Any]] = []
        self.sinks: Sequence[Sink] = ()

    def add_track(self, track: Track) -> None:
        """Begin a track; LogError where it is there already with another init section."""
        if self.tracks.setdefault(track.name, track) != track:
            raise LogError(f"track {track.name} is there already, with another header")

    def append(self, fragment: Fragment, data: bytes) -> Fragment:
        """Give a fragment to every destination."""
        placed = replace(fragment, size=len(data))
        for sink in self.sinks:
            sink.push(placed, data)
        if self._viewer is not None:
            self._viewer.push(self.tracks, placed, data)
        return placed

    def note(self, extra: dict[str, Any]) -> None:
        """Keep what belongs to no track, but subtitles: they are not carried live."""
        if "chapters" in extra:
            self.extras.append(extra)

    def fragments(self, track: str) -> list[Fragment]:
        """Return no fragment: a live log is not resumed."""
        return []

    def read(self, fragment: Fragment) -> bytes:
        """Raise LogError: nothing is kept."""
        raise LogError("a live log keeps nothing")

    def close(self) -> None:
        """Do nothing: memory needs no release."""
