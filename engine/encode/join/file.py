"""Joining of a log into one file: packets are copied, and the file is renamed to its final name once it is complete."""

import heapq
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av

from upres.engine.core.errors import EncoderError, LogError, TargetError, reason
from upres.engine.encode.codecs import MATROSKA
from upres.engine.segments.model import Log, Track
from upres.engine.segments.whole_file import partial_path, put_in_place

from .tracks import LogSubtitles, LogTrack, label, movflags, movie_timescale, ordered

CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}


def container_for(path: Path) -> str:
    """Return the container format for a file name. Raises TargetError for an unknown suffix."""
    if path.suffix.lower() not in CONTAINERS:
        still = "; one frame goes into a name that ends in .png with `still` 0" * (path.suffix.lower() in PICTURES)
        raise TargetError(f"{path}: the name must end in {', '.join(CONTAINERS)}{still}")
    return CONTAINERS[path.suffix.lower()]


def join(log: Log, target: Path, container: str) -> None:
    """Write the joined file, which appears under its name only once it is complete and on disk.

    Raises TargetError if it cannot be written, EncoderError if the container rejects the log's content, LogError if the log is
    damaged or has no frames.
    """
    check_has_frames(log)
    part = partial_path(target)
    try:
        with muxing_errors(str(target), container):
            _write(log, part, container)
            put_in_place(part, target)
    finally:
        part.unlink(missing_ok=True)


def check_has_frames(log: Log) -> None:
    """Raise LogError if the log has no video frames."""
    if not log.fragments("video"):
        raise LogError("no frame has been upscaled yet, so there is nothing to write")


@contextmanager
def muxing_errors(name: str, container: str) -> Iterator[None]:
    """Convert errors of the muxer and the system to TargetError, or to EncoderError if the container rejects the content.

    name: of the file, for messages; empty if the caller names it.
    """
    prefix = f"{name}: " if name else ""
    try:
        yield
    except av.ArgumentError as error:
        raise EncoderError(f"{prefix}{container} rejects its content ({error.strerror})") from error
    except BrokenPipeError as error:
        raise TargetError(f"{prefix}its reader has closed the pipe, so the rest is not written") from error
    except (OSError, av.FFmpegError) as error:
        raise TargetError(f"{prefix}cannot be written ({reason(error)})") from error


def _write(log: Log, path: Path, container: str) -> None:
    tracks = ordered(log)
    options = _options(log, tracks, container)
    sources: list[LogTrack | LogSubtitles] = [LogTrack(log, track, container) for track in tracks]
    sources += [LogSubtitles(log, extra, _end(log)) for extra in log.extras if "subtitles" in extra]
    try:
        with av.open(str(path), "w", format=container, options=options) as output:
            for source in sources:
                source.add_to(output)
            label(log, output)
            for _, _, packet in heapq.merge(*(source.packets() for source in sources)):
                output.mux(packet)
    finally:
        for source in sources:
            source.close()


def _end(log: Log) -> Fraction:
    track, last = log.tracks["video"], log.fragments("video")[-1]
    return (track.start + last.pts + last.duration) * track.time_base


def _options(log: Log, tracks: list[Track], container: str) -> dict[str, str]:
    options = {"fflags": "+bitexact"}  # no random values, so that equal logs give equal files
    if container in MATROSKA:
        return options
    return {**options, "movflags": movflags(log, "faststart"), "movie_timescale": movie_timescale(tracks)}
