"""Opening of a container with PyAV, and selection of the tracks that are read."""

import errno
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import IO, Any, TypeAlias, cast

import av
from av import AudioStream, CodecContext, Packet, VideoStream
from av.codec.context import Flags
from av.codec.hwaccel import HWAccel
from av.container import InputContainer
from av.stream import Discard, Disposition, Stream
from av.subtitles.stream import SubtitleStream

from upres.engine.core.errors import Interrupted, SourceError, reason

from .header import missing_part
from .source import Readable

MediaPacket: TypeAlias = "Packet[Any]"

LONGEST_SIDE = 16384
MOST_PIXELS = 8192 * 8192
LIMIT = f"{LONGEST_SIDE} a side and {MOST_PIXELS // 10**6} million pixels"

CLOCK_MAY_JUMP = 0x0200  # libavformat's AVFMT_TS_DISCONT
WITHOUT_STAMPS = 0x0080  # its AVFMT_NOTIMESTAMPS

OPENING_LIMIT = 256 << 20  # bytes of a stream before its tracks are known; a film's fonts and covers take less
BUFFER = 32768  # bytes that are read ahead of the demuxer
LIVE_BUFFER = 4096
SINGLE_THREAD_PIXELS = 640 * 480
"""Frame size in pixels up to which one decoder thread is faster than the upscaling; more threads only cost work and memory."""
HEIC = frozenset({"heic", "heix", "heim", "heis", "mif1"})
"""Brands of photos by ISO 23008-12, whose tiles libavformat exposes as tracks. AVIF is excluded because it is read as an image."""
ACCESS_ERRORS = (ConnectionError, FileNotFoundError, PermissionError, TimeoutError)
"""Errors that prevent a source from being opened regardless of its content."""
FORMAT_REFUSED = "its format is not among the accepted ones"
NEEDS_SEEKING = "its format cannot be read from a stream: save it as a file, or send it as a job"
LIVE_PROBE = {"fpsprobesize": "6"}
"""Number of frames that are read to find the frame rate; libavformat's default of 20 would double the initial delay."""


@dataclass(frozen=True, slots=True)
class Tracks:
    """The tracks of a container that are read, and some that are not.

    other_programs: tracks of other programs. chapters: tracks that hold chapter titles.
    untimed: the container is a raw bitstream without timestamps.
    """

    video: VideoStream
    audio: tuple[AudioStream, ...]
    subtitles: tuple[SubtitleStream, ...]
    other_programs: tuple[Stream, ...] = ()
    chapters: tuple[Stream, ...] = ()
    untimed: bool = False

    @property
    def all(self) -> tuple[Stream, ...]:
        """Every track that is read."""
        return (self.video, *self.audio, *self.subtitles)


class Seekable:
    """A file for libavformat: seeking to an invalid position returns an error code, which libavformat handles."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.read = _once(file.read)
        self.tell = file.tell

    def seek(self, offset: int, whence: int = 0) -> int:
        """Return the new position, or a negative error number."""
        try:
            return self._file.seek(offset, whence)
        except ValueError:  # raised by in-memory files for a negative position
            return -errno.EINVAL
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            return -errno.EINVAL


class Unseekable:
    """A stream for libavformat, limited until its tracks are known: a demuxer would otherwise skip invalid data without end.

    remaining: bytes of the limit that were not read yet; None once the container is open.
    """

    def __init__(self, stream: Readable) -> None:
        self._read = _once(stream.read)
        self.remaining: int | None = OPENING_LIMIT

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes."""
        data = self._read(size if self.remaining is None else min(size, self.remaining))
        if self.remaining is not None:
            self.remaining -= len(data)
        return data


def _once(read: Callable[[int], bytes]) -> Callable[[int], bytes]:
    """Wrap a read function so that it returns no data after an error, because PyAV prints every error after the first one.

    A KeyboardInterrupt becomes Interrupted: PyAV passes on only what derives from Exception, and prints and discards the rest.
    """
    failed = False

    def reading(size: int, /) -> bytes:
        nonlocal failed
        if failed:
            return b""
        try:
            return read(size)
        except BaseException as error:
            failed = True
            if isinstance(error, Exception):
                raise
            raise Interrupted("interrupted") from error

    return reading


def open_container(
    name: str,
    file: str | IO[bytes] | Readable,
    formats: tuple[str, ...] | None,
    *,
    live: bool,
    settings: Mapping[str, str] | None = None,
    wait_seconds: float | None = None,
    hwaccel: HWAccel | None = None,
) -> InputContainer:
    """Open a container with PyAV. name: for messages. formats: as for Reader. settings, wait_seconds: as the fields of Opened.

    hwaccel: decodes the video, as far as it supports the codec.
    Raises SourceError with FFmpeg's reason.
    """
    options, ahead = ({**(settings or {}), **LIVE_PROBE}, LIVE_BUFFER) if live else ({**(settings or {})}, BUFFER)
    if formats is not None:
        options = {**options, "format_whitelist": ",".join(formats), "protocol_whitelist": "file"}
    if isinstance(file, str):
        return _open(name, file, options, ahead, wait_seconds, hwaccel)
    if hasattr(file, "seek"):
        return _open(name, Seekable(cast(IO[bytes], file)), options, ahead, hwaccel=hwaccel)
    stream = Unseekable(file)
    try:
        return _open(name, stream, options, ahead, hwaccel=hwaccel)
    finally:
        if stream.remaining == 0:
            raise SourceError(
                f"{name}: not a video that can be read (no tracks within its first {OPENING_LIMIT >> 20} MiB)"
            )
        stream.remaining = None


def _open(
    name: str,
    file: str | Seekable | Unseekable,
    options: dict[str, str],
    ahead: int,
    wait_seconds: float | None = None,
    hwaccel: HWAccel | None = None,
) -> InputContainer:
    settings: dict[str, Any] = {"options": options, "buffer_size": ahead, "timeout": wait_seconds, "hwaccel": hwaccel}
    try:
        opened: InputContainer = av.open(file, mode="r", metadata_errors="replace", **settings)
        return opened
    except (av.FFmpegError, ValueError, OSError) as error:  # OSError: the file rejected a seek of the demuxer
        unreachable = isinstance(error, ACCESS_ERRORS) or (
            wait_seconds is not None and getattr(error, "errno", None) == errno.EIO
        )
        what = "cannot be opened" if unreachable else "not a video that can be read"
        why = reason(error)
        if isinstance(error, av.InvalidDataError) and not isinstance(file, Unseekable):
            why = missing_part(file) or why
        if isinstance(error, av.ExitError):
            what, why = (
                "cannot be opened",
                f"no readable data arrived within {wait_seconds:g} s; check that the source is sending",
            )
        elif "format_whitelist" in options and isinstance(error, av.ArgumentError):
            why = FORMAT_REFUSED
        elif (
            isinstance(file, Unseekable) and getattr(error, "errno", None) == errno.ENOSYS
        ):  # APNG's demuxer has to seek
            why = NEEDS_SEEKING
        remedy = "" if hwaccel is None else "; without `nvdec` the CPU decodes"
        raise SourceError(f"{name}: {what} ({why}){remedy}") from error


def choose(name: str, container: InputContainer, *, live: bool) -> Tracks:
    """Return the default video track, ready to be decoded, and all audio and subtitle tracks of its program.

    Raises SourceError if there is no video that can be decoded.
    """
    if container.metadata.get("major_brand", "").strip() in HEIC:
        raise SourceError(
            f"{name}: is a HEIC photo, which is not read here; save it as JPEG first: magick in.heic in.jpg, or on a Mac "
            "sips -s format jpeg in.heic --out in.jpg"
        )
    videos = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not videos:
        raise SourceError(f"{name}: holds no video track (found: {listed(container)})")
    video = next((s for s in videos if s.disposition & Disposition.default), videos[0])
    if video.codec_context is None:
        raise SourceError(f"{name}: there is no decoder for its video (found: {listed(container)})")
    check_size(name, video.width, video.height)
    video.thread_type = "SLICE" if live else "AUTO"
    if 0 < video.width * video.height <= SINGLE_THREAD_PIXELS or video.codec_context.is_hwaccel:
        video.codec_context.thread_count = 1  # each thread would need another of NVDEC's 32 surfaces
    video.codec_context.flags |= Flags.output_corrupt
    others = tuple(s for s in container.streams if _is_of_other_program(container, s, video))
    # An audio track that is declared but has no data, as may happen in MPEG-TS, has no sample rate.
    audio = tuple(s for s in container.streams.audio if s.codec_context and s.codec_context.sample_rate)
    subtitles = tuple(s for s in container.streams.subtitles if s.codec_context)
    chapters = tuple(s for s in container.streams if s.discard is Discard.all)  # libavformat has read them already
    untimed = bool(container.format.flags & WITHOUT_STAMPS)
    audio = tuple(s for s in audio if s not in others)
    tracks = Tracks(video, audio, tuple(s for s in subtitles if s not in others), others, chapters, untimed)
    for stream in container.streams:
        if stream not in tracks.all:
            stream.discard = Discard.all
    return tracks


def _is_of_other_program(container: InputContainer, stream: Stream, video: VideoStream) -> bool:
    """Report whether a stream belongs only to other programs than the video's. False for a stream that is in no program.

    The programs of a broadcast have separate clocks. PyAV does not list them, so they are distinguished by their best tracks.
    """
    program = _program(container, stream)
    best = [container.streams.best(kind, video) for kind in ("audio", "subtitle")]
    if program == _program(container, video) or stream in best:
        return False
    picture = program[0]
    # False if that picture's own program does not contain the stream.
    return picture is None or _program(container, picture) == program


def _program(container: InputContainer, stream: Stream) -> tuple[Stream | None, ...]:
    """Return the best tracks of a stream's first program, which identify it; those of the file if it belongs to no program."""
    return tuple(container.streams.best(kind, stream) for kind in ("video", "audio"))


def check_size(name: str, width: int, height: int) -> None:
    """Raise SourceError if frames are larger than supported."""
    if width > LONGEST_SIDE or height > LONGEST_SIDE or width * height > MOST_PIXELS:
        raise SourceError(f"{name}: frames of {width}x{height} are larger than can be held; the limit is {LIMIT}")


def listed(container: InputContainer) -> str:
    """Return a container's tracks as text for a message."""
    return ", ".join(f"{s.type} {codec_name(s)}" for s in container.streams) or "no tracks"


def codec_name(stream: Stream) -> str:
    """Return the usual name of a track's codec, which may differ from the decoder's name (mp3float)."""
    context: CodecContext | None = stream.codec_context
    return "unknown" if context is None else context.codec.canonical_name
