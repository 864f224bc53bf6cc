"""Video encoder that turns frames of one or more segments into packets."""

import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import av
from av import Packet, VideoFrame, VideoStream
from av.video.frame import PictureType

from upres.engine.color.convert import MATRICES, PRIMARIES, TRANSFERS
from upres.engine.core.errors import EncoderError, SettingsError
from upres.engine.core.frame import Color, Frame, Shape
from upres.engine.machine.priority import ordinary_priority

from .options import Encoding


@dataclass(frozen=True, slots=True)
class Piece:
    """Encoded packets that become one fragment. A segment is one piece or several.

    template: the stream that the packets belong to. codec: FFmpeg's name of the encoder. pts, duration: ticks.
    last: whether it ends its segment, which is a closed GOP. shot: whether it starts a shot.
    container: libavformat's name of the fragment's format.
    """

    packets: list["Packet[VideoStream]"]
    template: VideoStream
    codec: str
    pts: int
    duration: int
    last: bool
    shot: bool
    container: str = "mp4"


class SegmentEncoding(Protocol):
    """Interface of an encoder in this process or in another. start, pending: as for SegmentEncoder."""

    start: int
    pending: bool

    def encode(self, picture: VideoFrame, frame: Frame, *, key: bool = False) -> None:
        """Encode a frame; the first one of a segment becomes a keyframe. key: make this one a keyframe."""
        ...

    def take(self, *, last: bool) -> Piece:
        """Return the packets encoded since the last call; valid until the next one. last: the next frame starts a segment."""
        ...

    def finish(self) -> Piece:
        """Flush the encoder; return the remaining packets, which end a segment."""
        ...

    def close(self) -> None:
        """Release the encoder."""
        ...


OpenEncoder = Callable[[Encoding, Shape], SegmentEncoding]


class SegmentEncoder:
    """An encoder in this process. Its container is never written to, but PyAV creates encoders only as streams of a container.

    start: pts of the segment's first frame. pending: whether frames were encoded since the last `take`. waiting_bytes: size of
    the packets since then.
    """

    def __init__(self, encoding: Encoding, shape: Shape) -> None:
        self.start = self.waiting_bytes = self._begin = self._end = 0
        self.pending = False
        self._key = True
        self._shot = False
        self._time_base = shape.time_base
        self._packets: list[Packet[VideoStream]] = []
        if encoding.library == "libsvtav1":
            os.environ.setdefault("SVT_LOG", "1")  # only errors, because the library writes directly to stderr
        self._container = av.open(io.BytesIO(), "w", format=encoding.container)
        with _translated(encoding):
            stream = self._container.add_stream(encoding.library, rate=shape.rate, options=dict(encoding.options))
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = encoding.width, encoding.height, encoding.pixel_format
        stream.codec_context.time_base = shape.time_base
        stream.codec_context.gop_size = 1 << 20
        stream.codec_context.sample_aspect_ratio = shape.sample_aspect
        _tag(stream, encoding.color)
        with _translated(encoding), ordinary_priority():
            self._container.start_encoding()
        _check_options(stream, encoding)
        self._stream = stream
        self._encoding = encoding

    def encode(self, picture: VideoFrame, frame: Frame, *, key: bool = False) -> None:
        """Encode a frame; the first one of a segment becomes a keyframe. key: make this one a keyframe."""
        if self._key:
            self.start = frame.pts
        if self._key or key:
            picture.pict_type = PictureType.I
        if not self.pending:
            self._begin, self._shot = frame.pts, frame.shot
        self.pending, self._key = True, False
        picture.pts, picture.time_base, picture.duration = frame.pts, self._time_base, frame.duration
        self._end = frame.pts + frame.duration
        with _translated(self._encoding):
            packets = self._stream.encode(picture)
        self._packets += packets
        self.waiting_bytes += sum(packet.size for packet in packets)

    def take(self, *, last: bool) -> Piece:
        """Return the packets encoded since the last call. last: the next frame starts a segment."""
        packets, self._packets = self._packets, []
        self.pending, self._key, self.waiting_bytes = False, last, 0
        span = self._begin, self._end - self._begin
        return Piece(
            packets,
            self._stream,
            self._encoding.library,
            *span,
            last=last,
            shot=self._shot,
            container=self._encoding.container,
        )

    def finish(self) -> Piece:
        """Flush the encoder; return the remaining packets, which end a segment."""
        with _translated(self._encoding):
            self._packets += self._stream.encode(None)
        return self.take(last=True)

    def close(self) -> None:
        """Release the encoder."""
        self._container.close()


def _check_options(stream: VideoStream, encoding: Encoding) -> None:
    """Raise SettingsError if the encoder has not consumed one of the user's options, because it does not know it."""
    unused = stream.codec_context.options
    if unknown := [name for name, _ in encoding.encoder.options if name in unused]:
        raise SettingsError(
            f"{encoding.library} has no option {', '.join(unknown)}; `ffmpeg -h encoder={encoding.library}` lists them"
        )


@contextmanager
def _translated(encoding: Encoding) -> Iterator[None]:
    try:
        yield
    except av.codec.codec.UnknownCodecError as error:
        raise EncoderError(f"this PyAV has no {encoding.library}; `upres doctor` says what to do") from error
    except av.FFmpegError as error:
        what = f"{encoding.width}x{encoding.height} as {encoding.pixel_format}"
        raise EncoderError(f"{encoding.library} cannot encode {what}: {error.strerror}") from error


def _tag(stream: VideoStream, color: Color) -> None:
    """Set the stream's color properties, so that players do not have to guess them from the upscaled size."""
    context = stream.codec_context
    context.colorspace = _number(MATRICES, color.matrix)
    context.color_range = 2 if color.range == "pc" else 1
    context.color_primaries = _number(PRIMARIES, color.primaries)
    context.color_trc = _number(TRANSFERS, color.transfer)


def _number(names: dict[int, str], name: str) -> int:
    return next(number for number, known in names.items() if known == name)
