"""Frames to segments of encoded video, given whole or frame by frame.

Each segment has a fresh encoder, so that it depends on nothing but its frames. A live source keeps one encoder, which begins
every segment with an IDR frame.
"""

import io
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import av
from av import Packet, VideoFrame, VideoStream
from av.video.frame import PictureType

from upres.engine.color.convert import MATRICES, PRIMARIES, TRANSFERS, FromRGB, encoded
from upres.engine.core.errors import SettingsError, TargetError
from upres.engine.core.frame import Colour, Frame, Shape

Codec = Literal["auto", "h264", "hevc", "lossless"]
Unit = Literal["segment", "frame"]
LARGEST_H264 = 4096  # a side; H.264's level 5.2, the last that hardware decoders take, ends at 4096x2304
THREADS = 4  # pinned: the same frames and settings then give the same bytes


@dataclass(frozen=True, slots=True)
class Encoder:
    """How the result is encoded. segment_seconds: when a segment ends. height: resample the result down to it, or None.

    fragment: what is given at once; single frames are encoded without looking ahead. live: with one encoder, which waits for
    nothing and cannot be resumed.
    """

    codec: Codec = "auto"
    crf: int = 18
    preset: str = "fast"
    segment_seconds: float = 2.0
    height: int | None = None
    fragment: Unit = "segment"
    live: bool = False

    def __post_init__(self) -> None:
        problems = []
        if self.codec not in ("auto", "h264", "hevc", "lossless"):
            problems.append(f"codec must be auto, h264, hevc or lossless, got {self.codec!r}")
        if not 0 <= self.crf <= 51:
            problems.append(f"crf must lie in 0..51, got {self.crf}")
        if self.preset not in PRESETS:
            problems.append(f"preset must be one of {', '.join(PRESETS)}, got {self.preset!r}")
        if not 0.1 <= self.segment_seconds <= 60:
            problems.append(f"segment_seconds must lie in 0.1..60, got {self.segment_seconds}")
        if self.height is not None and not 16 <= self.height <= 16384:
            problems.append(f"height must lie in 16..16384, got {self.height}")
        if self.fragment not in ("segment", "frame"):
            problems.append(f"fragment must be segment or frame, got {self.fragment!r}")
        if problems:
            raise SettingsError("; ".join(problems))


PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")


@dataclass(frozen=True, slots=True)
class Encoding:
    """An encoder's settings made definite for one size of frame. why: what a user should know about the choice."""

    library: str
    pixel_format: str
    width: int
    height: int
    colour: Colour
    options: tuple[tuple[str, str], ...]
    encoder: Encoder
    why: str | None = None


@dataclass(frozen=True, slots=True)
class Piece:
    """What becomes one fragment: packets in order, and the stream they were made by. A segment is one piece, or several.

    first, last: where it stands in its segment, which is a closed GOP. shot: whether it starts one.
    """

    packets: list["Packet[VideoStream]"]
    template: VideoStream
    pts: int
    duration: int
    first: bool
    last: bool
    shot: bool


def resolve(encoder: Encoder, shape: Shape) -> Encoding:
    """Settings for frames of this shape (the enlarged one). Raises SettingsError where `height` would enlarge."""
    width, height = _size(encoder, shape)
    colour = encoded(shape.colour)
    odd = width % 2 or height % 2
    prompt = encoder.live or encoder.fragment == "frame"
    common = (
        *(("bf", "0"), ("flags", "+frame_duration"), ("threads", str(THREADS)), ("preset", encoder.preset)),
        *((("tune", "zerolatency"), ("forced-idr", "1")) if prompt else ()),
    )
    if encoder.codec == "lossless":
        colour = Colour("gbr", "pc", colour.primaries, colour.transfer)
        return Encoding("libx264rgb", "rgb24", width, height, colour, (*common, ("qp", "0")), encoder)
    pixel_format = "yuv444p" if odd else "yuv420p"
    why = f"{width}x{height} has an odd side, so it is encoded as 4:4:4, which not every player shows" if odd else None
    codec = encoder.codec
    if codec == "auto":
        codec = "hevc" if max(width, height) > LARGEST_H264 else "h264"
        if codec == "hevc":
            why = (
                f"{width}x{height} is beyond what H.264 players take ({LARGEST_H264} a side), so it is encoded as HEVC"
            )
    quality = (*common, ("crf", str(encoder.crf)))
    if codec == "h264":
        return Encoding("libx264", pixel_format, width, height, colour, quality, encoder, why)
    x265 = f"log-level=none:bframes=0:repeat-headers=0:keyint=-1:scenecut=0:open-gop=0:pools={THREADS}:frame-threads=1:info=0"
    return Encoding("libx265", pixel_format, width, height, colour, (*quality, ("x265-params", x265)), encoder, why)


def _size(encoder: Encoder, shape: Shape) -> tuple[int, int]:
    if encoder.height is None or encoder.height == shape.height:
        return shape.width, shape.height
    if encoder.height > shape.height:
        raise SettingsError(
            f"height must be at most the model's {shape.height}, got {encoder.height}: it resamples down, not up"
        )
    return max(2, round(shape.width * encoder.height / shape.height / 2) * 2), encoder.height


def pieces(frames: Iterator[Frame], encoding: Encoding, shape: Shape, *, at_shots: bool) -> Generator[Piece]:
    """Encode frames, and give them a segment or a frame at a time; a segment begins every `segment_seconds`, and at shots if asked.

    Whether a frame is the last of its segment is known by the next one, so that it is given when that has come. Of a live
    source its own duration tells, shots are not looked at, and the last segment may be left without an end.
    """
    convert = FromRGB(encoding.colour, encoding.pixel_format, (encoding.width, encoding.height))
    pictures = ((convert(frame.pixels), frame) for frame in frames)
    return _live(pictures, encoding, shape) if encoding.encoder.live else _apart(pictures, encoding, shape, at_shots)


Pictures = Iterator[tuple[VideoFrame, Frame]]


def _apart(pictures: Pictures, encoding: Encoding, shape: Shape, at_shots: bool) -> Generator[Piece]:
    """Each segment by an encoder of its own."""
    length = _length(encoding, shape)
    current: _Encoder | None = None
    try:
        for picture, frame in pictures:
            if current is not None and (frame.pts - current.begun >= length or (at_shots and frame.shot)):
                yield current.finish()
                current.close()
                current = None
            elif current is not None and encoding.encoder.fragment == "frame":
                yield current.take(last=False)
            current = current or _Encoder(encoding, shape)
            current.encode(picture, frame)
        if current is not None:
            yield current.finish()
    finally:
        if current is not None:
            current.close()


def _live(pictures: Pictures, encoding: Encoding, shape: Shape) -> Generator[Piece]:
    """All segments by one encoder, each frame given as soon as it is encoded."""
    length = _length(encoding, shape)
    encoder = _Encoder(encoding, shape)
    try:
        for picture, frame in pictures:
            encoder.encode(picture, frame)
            last = frame.pts + frame.duration - encoder.begun >= length
            if last or encoding.encoder.fragment == "frame":
                yield encoder.take(last=last)
        if encoder.holds:
            yield encoder.finish()
    finally:
        encoder.close()


def _length(encoding: Encoding, shape: Shape) -> Fraction:
    return Fraction(encoding.encoder.segment_seconds).limit_denominator(1000) / shape.time_base


class _Encoder:
    """One encoder. The container is never written to: it gives its stream a place to stand.

    begun: pts of the segment's first frame. holds: whether anything was encoded that was not taken.
    """

    def __init__(self, encoding: Encoding, shape: Shape) -> None:
        self.begun = self._begin = self._end = 0
        self.holds = False
        self._first = self._key = True
        self._shot = False
        self._time_base = shape.time_base
        self._packets: list[Packet[VideoStream]] = []
        self._container = av.open(io.BytesIO(), "w", format="mp4")
        with _translated(encoding):
            stream = self._container.add_stream(encoding.library, rate=shape.rate, options=dict(encoding.options))
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = encoding.width, encoding.height, encoding.pixel_format
        stream.codec_context.time_base = shape.time_base
        stream.codec_context.gop_size = 1 << 20
        stream.codec_context.sample_aspect_ratio = shape.sample_aspect
        _tag(stream, encoding.colour)
        with _translated(encoding):
            self._container.start_encoding()
        self._stream = stream
        self._encoding = encoding

    def encode(self, picture: VideoFrame, frame: Frame) -> None:
        """Encode a frame; the first one of a segment becomes a key frame."""
        if self._key:
            self.begun, picture.pict_type = frame.pts, PictureType.I
        if not self.holds:
            self._begin, self._first, self._shot = frame.pts, self._key, frame.shot
        self.holds, self._key = True, False
        picture.pts, picture.time_base, picture.duration = frame.pts, self._time_base, frame.duration
        self._end = frame.pts + frame.duration
        with _translated(self._encoding):
            self._packets += self._stream.encode(picture)

    def take(self, *, last: bool) -> Piece:
        """What was encoded since this was last asked. last: the next frame begins a segment."""
        packets, self._packets = self._packets, []
        self.holds, self._key = False, last
        span = self._begin, self._end - self._begin
        return Piece(packets, self._stream, *span, first=self._first, last=last, shot=self._shot)

    def finish(self) -> Piece:
        """The rest, which ends a segment."""
        with _translated(self._encoding):
            self._packets += self._stream.encode(None)
        return self.take(last=True)

    def close(self) -> None:
        self._container.close()


@contextmanager
def _translated(encoding: Encoding) -> Iterator[None]:
    try:
        yield
    except av.codec.codec.UnknownCodecError as error:
        raise TargetError(f"this PyAV has no {encoding.library}; `upres doctor` says what to do") from error
    except av.FFmpegError as error:
        what = f"{encoding.width}x{encoding.height} as {encoding.pixel_format}"
        raise TargetError(f"{encoding.library} cannot encode {what}: {error.strerror}") from error


def _tag(stream: VideoStream, colour: Colour) -> None:
    """Write the colour into the stream, so that no player has to guess it from the enlarged size."""
    context = stream.codec_context
    context.colorspace = _number(MATRICES, colour.matrix)
    context.color_range = 2 if colour.range == "pc" else 1
    context.color_primaries = _number(PRIMARIES, colour.primaries)
    context.color_trc = _number(TRANSFERS, colour.transfer)


def _number(names: dict[int, str], name: str) -> int:
    return next(number for number, known in names.items() if known == name)
