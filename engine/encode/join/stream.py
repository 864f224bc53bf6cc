"""Joining of a log while it grows, in any container that can be written without seeking, into a pipe or to an address."""

import heapq
import io
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from fractions import Fraction
from itertools import chain, count
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Protocol

import av
from av import Packet

from upres.engine.encode.codecs import MATROSKA
from upres.engine.encode.fragment import header_of, in_file
from upres.engine.segments.model import Fragment, Log, Track

from .file import check_has_frames, muxing_errors
from .tracks import LogSubtitles, LogTrack, label, movflags, movie_timescale, ordered

if TYPE_CHECKING:
    from av.container import OutputContainer

logger = logging.getLogger(__name__)

ABSENT_SECONDS = Fraction(2)  # of video, after which a live file begins without the tracks that are still missing
PIECE_MILLISECONDS = 500  # duration of a fragment or cluster, which adds to a player's delay
LEAD_MILLISECONDS = 2000  # by which a track may be ahead of the others before it is written without them
LIVE_LEAD_MILLISECONDS = 500  # the same in a live file
OPTIONS = {
    # Segments begin with keyframes; segments that are no longer in the playlist are deleted.
    "hls": {"hls_time": "2", "hls_list_size": "6", "hls_flags": "delete_segments+independent_segments+temp_file"},
    "rtsp": {"rtsp_transport": "tcp"},  # a single connection, which works through routers and firewalls
    "mpegts": {"omit_video_pes_length": "0"},  # so that players know the end of a frame before the next one arrives
    "nut": {"syncpoints": "none", "strict": "experimental"},  # the muxer would keep all sync points in memory
}


class Writable(Protocol):
    """An open file, or another object to which bytes can be written."""

    def write(self, data: bytes, /) -> object: ...  # noqa: D102


class StreamedFile:
    """A file that is written while its log grows. Leaving its `with` block without an error writes the end of the file.

    The header lists every track, so nothing is written before each track has its first fragment, however late
    a track starts, unless `prompt` is set.
    target: an open file, or a path or address that libavformat opens itself.
    name: for messages; empty if the caller names it.
    prompt: for live results. Packets are written without delay, samples hidden at the end are kept, and a track without
    data in the first `ABSENT_SECONDS` of video is left out. MP4 and QuickTime then consist of the log's fragments after a header
    from libavformat, because its muxer would write a frame only after the next one has arrived.
    Raises TargetError if the file cannot be written, EncoderError if the container rejects the content, LogError if the log is
    damaged or has no frames.
    """

    def __init__(
        self, log: Log, target: Writable | str, container: str, *, prompt: bool = False, name: str = "the result"
    ) -> None:
        self._name = name
        self._prompt = prompt
        self._log = log
        self._target = target if isinstance(target, str) else _Pipe(target)
        self._container = container
        self._fragments: _FragmentWriter | None = None
        if prompt and container in ("mp4", "mov") and not isinstance(target, str):
            self._fragments = _FragmentWriter(log, _Pipe(target))
        self._waiting: dict[str, list[Fragment]] = defaultdict(list)
        self._tracks: dict[str, LogTrack] = {}
        self._subtitles: list[LogSubtitles] = []
        self._left_out: set[str] = set()
        self._pending: dict[int, Packet[Any] | None] = {}
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
            with suppress(OSError, av.FFmpegError):  # a broken pipe, for instance, which has been reported already
                if self._output is not None:
                    self._output.close()

    def push(self, fragment: Fragment) -> None:
        """Write a fragment of the log, or keep it until the header can be written. Called in log order."""
        if self._output is not None and fragment.track not in self._tracks:
            self._leave_out(fragment.track)
            return
        self._waiting[fragment.track].append(fragment)
        if self._output is not None or self._header_ready():
            with muxing_errors(self._name, self._container):
                self._write()

    @property
    def waits(self) -> bool:
        """Whether fragments wait for the first fragment of another track."""
        return bool(self._waiting)

    def _header_ready(self) -> bool:
        """Report whether the header can be written: every track has fragments, or was waited for long enough."""
        if _track_names(self._log) <= self._waiting.keys():
            return True
        if not self._prompt or "video" not in self._waiting:
            return False
        video = self._waiting["video"]
        ticks = video[-1].pts + video[-1].duration - video[0].pts
        return ticks * self._log.tracks["video"].time_base >= ABSENT_SECONDS

    def _leave_out(self, track: str) -> None:
        if track not in self._left_out:
            self._left_out.add(track)
            logger.warning("%s is left out: it started after the header, which lists all tracks, was written", track)

    def _finish(self) -> None:
        check_has_frames(self._log)
        with muxing_errors(self._name, self._container):
            output = self._write()
            for track in self._tracks.values():
                last = self._pending[track.index]
                if last is not None:
                    track.trim(last)
                    output.mux(last)
            output.close()

    def _write(self) -> "OutputContainer":
        """Write the waiting fragments.

        Unless `prompt` is set, the latest packet of each track waits, because it may be its last and need trimming.
        """
        waiting, self._waiting = self._waiting, defaultdict(list)
        output = self._output or self._open(waiting)
        if self._fragments is not None:
            self._fragments.write(self._tracks, chain.from_iterable(waiting.values()))
            return output
        pieces = [self._tracks[name].continued(fragments) for name, fragments in waiting.items()]
        try:
            packets = [*(piece.packets(whole=False) for piece in pieces), *(text.packets() for text in self._subtitles)]
            for _, index, packet in heapq.merge(*packets):
                ready: Packet[Any] | None = packet
                if index in self._pending and not self._prompt:
                    ready, self._pending[index] = self._pending[index], packet
                if ready is not None:
                    output.mux(ready)
        finally:
            for piece in pieces:
                piece.close()
        return output

    def _open(self, first: Mapping[str, list[Fragment]]) -> "OutputContainer":
        """Open the file with those tracks of the log that have fragments. first: the first fragments of each, for its header."""
        log, tracks = self._log, [track for track in ordered(self._log) if track.name in first]
        self._tracks = {track.name: LogTrack(log, track, self._container, first[track.name]) for track in tracks}
        self._subtitles = [LogSubtitles(log, extra, None) for extra in log.extras if "subtitles" in extra]
        target = self._target if self._fragments is None else self._fragments.header
        # The HLS muxer would ignore that a file it opens itself cannot be written.
        opened: dict[str, Any] = {"io_open": _Files().open} if self._container == "hls" else {}
        output: OutputContainer = av.open(target, "w", format=self._container, options=self._options(tracks), **opened)
        self._output = output
        for source in self._sources():
            source.add_to(output)
        label(log, output)
        self._pending = dict.fromkeys(track.index for track in self._tracks.values())
        if self._fragments is not None:
            self._fragments.begin(output, self._tracks.values())
        return output

    def _options(self, tracks: list[Track]) -> dict[str, str]:
        options = {
            "fflags": "+bitexact",  # no random values, so that equal logs give equal files
            "flush_packets": "1",
            "max_interleave_delta": str((LIVE_LEAD_MILLISECONDS if self._prompt else LEAD_MILLISECONDS) * 1000),
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


def _track_names(log: Log) -> set[str]:
    """Return the names of all tracks that the log will have."""
    return {"video", *(name for extra in log.extras for name in extra.get("tracks", ()))}


class _FragmentWriter:
    """Writes the fragments of a log to one MP4 file with several tracks. header: buffer for the header from libavformat."""

    def __init__(self, log: Log, target: "_Pipe") -> None:
        self.header = io.BytesIO()
        self._log = log
        self._target = target
        self._numbers = count(1)

    def begin(self, output: "OutputContainer", tracks: Iterable[LogTrack]) -> None:
        """Write the header. output: the container that writes to `header`, with all tracks added."""
        for track in tracks:
            output.mux(track.opening())
        output.close()
        self._target.write(header_of(self.header.getvalue()))

    def write(self, tracks: Mapping[str, LogTrack], fragments: Iterable[Fragment]) -> None:
        """Write fragments in the order of their times. tracks: those of the file."""

        def start(fragment: Fragment) -> Fraction:
            track = self._log.tracks[fragment.track]
            return (fragment.pts + track.start) * track.time_base

        for fragment in sorted(fragments, key=start):
            self._target.write(in_file(self._log.read(fragment), tracks[fragment.track].index + 1, self._numbers))


class _Pipe:
    """Wrapper that offers only `write`, so that libavformat does not seek."""

    def __init__(self, target: Writable) -> None:
        self._target = target

    def write(self, data: bytes) -> int:
        self._target.write(bytes(data))
        if flush := getattr(self._target, "flush", None):
            flush()
        return len(data)


class _Files:
    """Files that a muxer opens by name. Only the first error is raised: PyAV prints every error after the first one."""

    def __init__(self) -> None:
        self._failed = False

    def open(self, name: str, flags: int, options: Mapping[str, str]) -> Writable:
        """Open a file for writing; PyAV's `io_open`."""
        with self.errors():
            return _File(Path(name).open("wb"), self.errors)  # closed by the muxer
        return io.BytesIO()  # the result is lost already

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Raise the first OSError, and suppress all later ones."""
        try:
            yield
        except OSError:
            if self._failed:
                return
            self._failed = True
            raise


class _File(_Pipe):
    """A file that a muxer opened by name. errors: as of _Files."""

    def __init__(self, file: IO[bytes], errors: Callable[[], AbstractContextManager[None]]) -> None:
        super().__init__(file)
        self._file, self._errors = file, errors

    def write(self, data: bytes) -> int:
        with self._errors():
            super().write(data)
        return len(data)

    def close(self) -> None:
        with self._errors():
            self._file.close()
