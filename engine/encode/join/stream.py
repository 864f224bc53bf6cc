"""A log written out while it grows: fragmented MP4, or Matroska without an index, into a pipe."""

import heapq
import io
import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from fractions import Fraction
from itertools import chain, count
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

import av
from av import Packet

from upres.engine.encode.codecs import MATROSKA
from upres.engine.encode.fragment import header_of, in_file
from upres.engine.segments.model import Fragment, Log, Track

from .file import as_ours, check_has_frames
from .tracks import LogSubtitles, LogTrack, label, movflags, movie_timescale, ordered

if TYPE_CHECKING:
    from av.container import OutputContainer

logger = logging.getLogger(__name__)

ABSENT_SECONDS = Fraction(2)  # of picture, after which a prompt file begins without the tracks that have not come
PIECE_MILLISECONDS = 500  # of the file that are written at once; a player waits for them
PROMPT_MILLISECONDS = 500  # by which a track may be ahead of the others in a live file
OPTIONS = {
    # Segments begin with key frames; those that the playlist has passed are deleted.
    "hls": {"hls_time": "2", "hls_list_size": "6", "hls_flags": "delete_segments+independent_segments+temp_file"},
    "rtsp": {"rtsp_transport": "tcp"},  # in one connection, which routers and firewalls let through
    "mpegts": {"omit_video_pes_length": "0"},  # by which players know where a frame ends before the next one comes
    "nut": {"syncpoints": "none", "strict": "experimental"},  # each would stay in memory
}
APART_MILLISECONDS = 2000  # by which a track may be ahead of the others before it is written alone


class Writable(Protocol):
    """An open file, or anything that takes bytes."""

    def write(self, data: bytes, /) -> object: ...  # noqa: D102


class StreamedFile:
    """One file from a log, written as far as the log goes. Leaving its `with` writes the end, unless an error is why.

    The header names every track, so nothing is written before each has its first fragment: none is lost for coming late.
    target: an open file, or a path or address that libavformat opens itself. prompt: what comes is written at once, packet by
    packet, what the source hides behind its last packet is left in, and a track is left out that has nothing in the first
    `ABSENT_SECONDS` of the picture. MP4 and QuickTime then are the log's own fragments behind a header that libavformat makes:
    its muxer writes a picture when the next has come, and the sound of its time.
    Raises TargetError where it cannot be written, EncoderError where the container refuses it, LogError where the log is
    damaged or has no frame.
    """

    def __init__(self, log: Log, target: Writable | str, container: str, *, prompt: bool = False) -> None:
        self._prompt = prompt
        self._log = log
        self._target = target if isinstance(target, str) else _Pipe(target)
        self._container = container
        self._passing: _Passing | None = None
        if prompt and container in ("mp4", "mov") and not isinstance(target, str):
            self._passing = _Passing(log, _Pipe(target))
        self._waiting: dict[str, list[Fragment]] = defaultdict(list)
        self._tracks: dict[str, LogTrack] = {}
        self._subtitles: list[LogSubtitles] = []
        self._left_out: set[str] = set()
        self._held: dict[int, Packet[Any] | None] = {}
        self._output: OutputContainer | None = None

    def __enter__(self) -> "StreamedFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            for source in self._sources():
                source.close()
            with suppress(OSError, av.FFmpegError):  # of a pipe that nobody reads: what was raised before says so
                if self._output is not None:
                    self._output.close()

    def push(self, fragment: Fragment) -> None:
        """Take a fragment that the log has got, in the order of the log."""
        if self._output is not None and fragment.track not in self._tracks:
            self._leave_out(fragment.track)
            return
        self._waiting[fragment.track].append(fragment)
        if self._output is not None or self._decided():
            with as_ours("the result", self._container):
                self._write()

    @property
    def waits(self) -> bool:
        """Tell whether fragments wait for the first of another track."""
        return bool(self._waiting)

    def _decided(self) -> bool:
        """Whether the header can be written: every track has come, or was waited for long enough."""
        if _announced(self._log) <= self._waiting.keys():
            return True
        if not self._prompt or "video" not in self._waiting:
            return False
        video = self._waiting["video"]
        return (video[-1].pts + video[-1].duration - video[0].pts) * self._log.tracks[
            "video"
        ].time_base >= ABSENT_SECONDS

    def _leave_out(self, track: str) -> None:
        if track not in self._left_out:
            self._left_out.add(track)
            logger.warning("%s is left out: it came after the header was written, which names all tracks", track)

    def _finish(self) -> None:
        check_has_frames(self._log)
        with as_ours("the result", self._container):
            output = self._write()
            for track in self._tracks.values():
                last = self._held[track.index]
                if last is not None:
                    track.trim(last)
                    output.mux(last)
            output.close()

    def _write(self) -> "OutputContainer":
        """Write what waits, but the latest packet of each track, which may turn out to be its last."""
        waiting, self._waiting = self._waiting, defaultdict(list)
        output = self._output or self._open(waiting)
        if self._passing is not None:
            self._passing.write(self._tracks, chain.from_iterable(waiting.values()))
            return output
        pieces = [self._tracks[name].continued(fragments) for name, fragments in waiting.items()]
        try:
            packets = [*(piece.packets(whole=False) for piece in pieces), *(text.packets() for text in self._subtitles)]
            for _, index, packet in heapq.merge(*packets):
                ready: Packet[Any] | None = packet
                if index in self._held and not self._prompt:
                    ready, self._held[index] = self._held[index], packet
                if ready is not None:
                    output.mux(ready)
        finally:
            for piece in pieces:
                piece.close()
        return output

    def _open(self, first: Mapping[str, list[Fragment]]) -> "OutputContainer":
        """Open the file with all tracks of the log. first: fragments of each, which its header is made from."""
        log, tracks = self._log, [track for track in ordered(self._log) if track.name in first]
        self._tracks = {track.name: LogTrack(log, track, self._container, first[track.name]) for track in tracks}
        self._subtitles = [LogSubtitles(log, extra, None) for extra in log.extras if "subtitles" in extra]
        target = self._target if self._passing is None else self._passing.header
        output = self._output = av.open(target, "w", format=self._container, options=self._options(tracks))
        for source in self._sources():
            source.add_to(output)
        label(log, output)
        self._held = dict.fromkeys(track.index for track in self._tracks.values())
        if self._passing is not None:
            self._passing.begin(output, self._tracks.values())
        return output

    def _options(self, tracks: list[Track]) -> dict[str, str]:
        options = {
            "fflags": "+bitexact",  # nothing random, so that equal logs give equal files
            "flush_packets": "1",
            "max_interleave_delta": str((PROMPT_MILLISECONDS if self._prompt else APART_MILLISECONDS) * 1000),
        }
        if self._container in MATROSKA:
            options |= {"cluster_time_limit": "0" if self._prompt else str(PIECE_MILLISECONDS)}
        elif self._container in ("mp4", "mov"):
            flags = movflags(self._log, "delay_moov", "default_base_moof")
            length = str(PIECE_MILLISECONDS * 1000)
            options |= {"movflags": flags, "movie_timescale": movie_timescale(tracks), "frag_duration": length}
        options |= OPTIONS.get(self._container, {})
        return options

    def _sources(self) -> list[LogTrack | LogSubtitles]:
        return [*self._tracks.values(), *self._subtitles]


def _announced(log: Log) -> set[str]:
    """Return the names of all tracks that the log will have."""
    return {"video", *(name for extra in log.extras for name in extra.get("tracks", ()))}


class _Passing:
    """Fragments of MP4 on their way into one file of several tracks. header: what libavformat writes its header into."""

    def __init__(self, log: Log, target: "_Pipe") -> None:
        self.header = io.BytesIO()
        self._log = log
        self._target = target
        self._places = count(1)

    def begin(self, output: "OutputContainer", tracks: Iterable[LogTrack]) -> None:
        """Write the header. output: the open `header`, to which the file's tracks were added."""
        for track in tracks:
            output.mux(track.opening())
        output.close()
        self._target.write(header_of(self.header.getvalue()))

    def write(self, tracks: Mapping[str, LogTrack], fragments: Iterable[Fragment]) -> None:
        """Write fragments in the order of time. tracks: those of the file."""

        def start(fragment: Fragment) -> Fraction:
            track = self._log.tracks[fragment.track]
            return (fragment.pts + track.start) * track.time_base

        for fragment in sorted(fragments, key=start):
            self._target.write(in_file(self._log.read(fragment), tracks[fragment.track].index + 1, self._places))


class _Pipe:
    """What can only be written to, so that libavformat does not go back in it."""

    def __init__(self, target: Writable) -> None:
        self._target = target

    def write(self, data: bytes) -> int:
        self._target.write(bytes(data))
        if flush := getattr(self._target, "flush", None):
            flush()
        return len(data)
