"""A container opened with PyAV, and which of its tracks are carried."""

import errno
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeAlias, cast

import av
from av import AudioStream, CodecContext, Packet, VideoStream
from av.codec.context import Flags
from av.container import InputContainer
from av.stream import Discard, Disposition, Stream
from av.subtitles.stream import SubtitleStream

from upres.engine.core.errors import SourceError, reason

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
ALONE = 640 * 480
"""Pixels of a frame up to which one thread decodes faster than networks upscale; several take more work and memory for that."""
HEIC = frozenset({"heic", "heix", "heim", "heis", "mif1"})
"""Brands of photos by ISO 23008-12, whose tiles libavformat shows as tracks. AVIF is one, too, and is read as an image."""
OUTSIDE = (ConnectionError, FileNotFoundError, PermissionError, TimeoutError)
"""What keeps a source from being opened and says nothing of what is in it."""
SHUT_OUT = "its format is none that is read here"
IN_ORDER = "its format cannot be read as its bytes come: save it as a file, or send it whole, as a job"
BOXES = (b"ftyp", b"styp", b"wide", b"mdat", b"free", b"skip", b"sidx", b"moof", b"moov", b"uuid", b"emsg", b"prft")
"""Kinds at the top of an MP4 or QuickTime file."""
MOST_BOXES = 10_000
MOST_BOXES_AWAY = 32  # of what is no file here, where each may be a connection
NO_INDEX = (
    "its index, the box moov, is missing: what recorded it was ended before it wrote one; untrunc makes one from another "
    "recording of the same device"
)
NO_HEADER = (
    "it holds fragments without the header, the box moov, that they belong to; put the init segment in front: "
    "cat init.mp4 segment.m4s > in.mp4"
)
LIVE_PROBE = {"fpsprobesize": "6"}
"""Frames that are looked at for the rate; libavformat's own 20 delay the first one twice as long."""


@dataclass(frozen=True, slots=True)
class Tracks:
    """What is read of a container, and of the rest: elsewhere, tracks of other programs; chapters, those that name them.

    untimed: it is a mere codec's bytes, in which nothing says when a frame is shown.
    """

    video: VideoStream
    audio: tuple[AudioStream, ...]
    subtitles: tuple[SubtitleStream, ...]
    elsewhere: tuple[Stream, ...] = ()
    chapters: tuple[Stream, ...] = ()
    untimed: bool = False

    @property
    def all(self) -> tuple[Stream, ...]:
        """Every track that is read."""
        return (self.video, *self.audio, *self.subtitles)


class Seekable:
    """A file as libavformat knows one: a place that no file has is an error code, which it handles, and not an exception."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.read = _once(file.read)
        self.tell = file.tell

    def seek(self, offset: int, whence: int = 0) -> int:
        """Return the new position, or a negative error number."""
        try:
            return self._file.seek(offset, whence)
        except ValueError:  # of a negative place, in memory
            return -errno.EINVAL
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            return -errno.EINVAL


class Unseekable:
    """A stream as libavformat reads one. It must show its tracks early: a demuxer skips what makes no sense to its end.

    left: bytes until it ends, None once it is open.
    """

    def __init__(self, stream: Readable) -> None:
        self._read = _once(stream.read)
        self.left: int | None = OPENING_LIMIT

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes."""
        data = self._read(size if self.left is None else min(size, self.left))
        if self.left is not None:
            self.left -= len(data)
        return data


def _once(read: Callable[[int], bytes]) -> Callable[[int], bytes]:
    """Read nothing more once that has failed: PyAV raises the first error, and prints every other."""
    failed = False

    def reading(size: int, /) -> bytes:
        nonlocal failed
        if failed:
            return b""
        try:
            return read(size)
        except BaseException:
            failed = True
            raise

    return reading


def open_container(
    name: str,
    file: str | IO[bytes] | Readable,
    formats: tuple[str, ...] | None,
    *,
    live: bool,
    settings: Mapping[str, str] | None = None,
    wait_seconds: float | None = None,
) -> InputContainer:
    """Open what PyAV opens; SourceError with FFmpeg's reason. name: for people. formats: as the Reader's.

    settings, wait_seconds: as an Opened's.
    """
    options, ahead = ({**(settings or {}), **LIVE_PROBE}, LIVE_BUFFER) if live else ({**(settings or {})}, BUFFER)
    if formats is not None:
        options = {**options, "format_whitelist": ",".join(formats), "protocol_whitelist": "file"}
    if isinstance(file, str):
        return _open(name, file, options, ahead, wait_seconds)
    if hasattr(file, "seek"):
        return _open(name, Seekable(cast(IO[bytes], file)), options, ahead)
    stream = Unseekable(file)
    try:
        return _open(name, stream, options, ahead)
    finally:
        if stream.left == 0:
            raise SourceError(
                f"{name}: not a video that can be read (no tracks within its first {OPENING_LIMIT >> 20} MiB)"
            )
        stream.left = None


def _open(
    name: str,
    file: str | Seekable | Unseekable,
    options: dict[str, str],
    ahead: int,
    wait_seconds: float | None = None,
) -> InputContainer:
    try:
        return av.open(
            file, mode="r", metadata_errors="replace", options=options, buffer_size=ahead, timeout=wait_seconds
        )
    except (av.FFmpegError, ValueError, OSError) as error:  # OSError: a seek of the demuxer that a file refuses
        outside = isinstance(error, OUTSIDE) or (
            wait_seconds is not None and getattr(error, "errno", None) == errno.EIO
        )
        what = "cannot be opened" if outside else "not a video that can be read"
        why = reason(error)
        if isinstance(error, av.InvalidDataError) and not isinstance(file, Unseekable):
            why = _lacking(file) or why
        if isinstance(error, av.ExitError):
            what, why = (
                "cannot be opened",
                f"nothing that can be read came within {wait_seconds:g} s; see whether it is sent there",
            )
        elif "format_whitelist" in options and isinstance(error, av.ArgumentError):
            why = SHUT_OUT
        elif (
            isinstance(file, Unseekable) and getattr(error, "errno", None) == errno.ENOSYS
        ):  # APNG's demuxer wants to seek
            why = IN_ORDER
        raise SourceError(f"{name}: {what} ({why})") from error


def _lacking(file: str | Seekable) -> str:
    """Say which part an MP4 or QuickTime file lacks without which nothing of it can be read; empty where that is not why."""
    try:
        if isinstance(file, Seekable):
            return _missing_box(file, MOST_BOXES_AWAY)
        if not Path(file).is_file():  # but an address
            return ""
        with Path(file).open("rb") as opened:
            return _missing_box(opened, MOST_BOXES)
    except (OSError, ValueError, SourceError):  # nothing more is known, then, than that it cannot be read
        return ""


def _missing_box(file: IO[bytes] | Seekable, most: int) -> str:
    """As _lacking, of an open file. most: boxes that are looked at."""
    kinds = set()
    end, at = file.seek(0, os.SEEK_END), 0
    for _ in range(most):
        if at >= end:
            break
        file.seek(at)
        box = file.read(16)
        size, kind = int.from_bytes(box[:4], "big"), box[4:8]
        size = int.from_bytes(box[8:16], "big") if size == 1 else size
        if len(box) < 8 or kind not in BOXES:
            break
        kinds.add(kind)
        if size < 8 or kind in (b"moof", b"moov"):
            break
        at += size
    else:
        return ""
    if not kinds or b"moov" in kinds:
        return ""
    return NO_HEADER if b"moof" in kinds else NO_INDEX


def choose(name: str, container: InputContainer, *, live: bool) -> Tracks:
    """Return the default video track, ready to be decoded, and all sound and subtitles of its program.

    Raises SourceError where there is no video that can be decoded.
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
    if 0 < video.width * video.height <= ALONE:
        video.codec_context.thread_count = 1
    video.codec_context.flags |= Flags.output_corrupt
    elsewhere = tuple(s for s in container.streams if _is_elsewhere(container, s, video))
    # Sound that is announced and does not come, as in MPEG-TS, has no rate.
    audio = tuple(s for s in container.streams.audio if s.codec_context and s.codec_context.sample_rate)
    subtitles = tuple(s for s in container.streams.subtitles if s.codec_context)
    chapters = tuple(s for s in container.streams if s.discard is Discard.all)  # libavformat has read them already
    untimed = bool(container.format.flags & WITHOUT_STAMPS)
    audio = tuple(s for s in audio if s not in elsewhere)
    tracks = Tracks(video, audio, tuple(s for s in subtitles if s not in elsewhere), elsewhere, chapters, untimed)
    for stream in container.streams:
        if stream not in tracks.all:
            stream.discard = Discard.all
    return tracks


def _is_elsewhere(container: InputContainer, stream: Stream, video: VideoStream) -> bool:
    """Tell whether a stream belongs to another program only: not that which the picture's shares, nor one that none lists.

    A broadcast's programs have clocks of their own. PyAV does not list them.
    """
    theirs = _program(container, stream)
    own = [container.streams.best(kind, video) for kind in ("audio", "subtitle")]
    if theirs == _program(container, video) or stream in own:
        return False
    picture = theirs[0]
    return picture is None or _program(container, picture) == theirs  # or that picture's program has not this stream


def _program(container: InputContainer, stream: Stream) -> tuple[Stream | None, ...]:
    """Return what tells a stream's first program from others: its best tracks; those of the file where it belongs to none."""
    return tuple(container.streams.best(kind, stream) for kind in ("video", "audio"))


def check_size(name: str, width: int, height: int) -> None:
    """Raise SourceError for frames larger than can be held."""
    if width > LONGEST_SIDE or height > LONGEST_SIDE or width * height > MOST_PIXELS:
        raise SourceError(f"{name}: frames of {width}x{height} are larger than can be held; the limit is {LIMIT}")


def listed(container: InputContainer) -> str:
    """List a container's tracks, for people."""
    return ", ".join(f"{s.type} {codec_name(s)}" for s in container.streams) or "no tracks"


def codec_name(stream: Stream) -> str:
    """Return a track's codec by its usual name, which is not always its decoder's (mp3float)."""
    context: CodecContext | None = stream.codec_context
    return "unknown" if context is None else context.codec.canonical_name
