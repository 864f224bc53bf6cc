"""Frames to segments of encoded video, published whole or frame by frame.

Each segment has a fresh encoder, so that it depends on nothing but its frames, and several may be encoded at once. Where segments
start depends on nothing but the times of frames, so that a run from the middle of a source makes the same ones. A live source keeps
one encoder, which starts every segment with an IDR frame.
"""

import math
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from fractions import Fraction
from functools import partial

from av import VideoFrame

from upres.engine.color.convert import FromRGB
from upres.engine.core.frame import Frame, Shape

from .captions import Captions, captioned
from .encoder import OpenEncoder, Piece, SegmentEncoder, SegmentEncoding
from .options import Encoder, Encoding
from .parallel import Captioned, Convert, in_parallel

Following = Callable[[int], int | None]


def pieces(
    frames: Iterator[Frame],
    encoding: Encoding,
    shape: Shape,
    *,
    at_shots: bool,
    captions: Captions | None = None,
    encoders: int = 1,
    open_encoder: OpenEncoder = SegmentEncoder,
    following: Following | None = None,
) -> Generator[Piece]:
    """Encode frames and yield a segment or a frame at a time.

    A segment starts with the first frame at or after each multiple of `segment_seconds`, and at shots if asked.
    Only the next frame shows whether a frame is the last of its segment, so a frame is yielded once that has come. For a live
    source its own duration decides, shots are ignored, and the last segment may be left without an end.
    encoders: segments that are encoded at once, to the same bytes, where they are published whole. open_encoder: makes each.
    following: of a live source that loses frames, called with the time of each frame once it is encoded; tells that of the next,
    which it lasts until, or None where that is unknown.
    """
    captions = captions or Captions()
    if encoders > 1 and not encoding.encoder.live and encoding.encoder.fragment == "segment":
        marked = _marked(frames, _length(encoding, shape), at_shots, captions)
        queue_bytes = waiting_bytes(encoding, shape, encoders)
        start = partial(_fresh, open_encoder, encoding, shape)
        return in_parallel(marked, start, encoders=encoders, queue_bytes=queue_bytes)
    convert = _converter(encoding)
    converted = ((convert(frame, captions.take(frame.pts)), frame) for frame in frames)
    if encoding.encoder.live:
        return _with_one_encoder(converted, open_encoder, encoding, shape, following)
    return _with_fresh_encoders(converted, open_encoder, encoding, shape, at_shots)


def waiting_bytes(encoding: Encoding, shape: Shape, encoders: int) -> int:
    """Say how many bytes of frames of this shape wait for that many encoders, so that all of them always have some.

    Frames come in order. So while a segment is encoded, those ahead of it wait: of the one that is nearly done none, of the one
    that has just been filled nearly all, which makes half a segment for each encoder but one.
    """
    frames = math.ceil(encoding.encoder.segment_seconds * shape.rate / 2)
    return (encoders - 1) * frames * shape.frame_bytes


def _converter(encoding: Encoding) -> Convert:
    """Make what converts frames to pictures for the encoder, for one thread."""
    convert = FromRGB(encoding.color, encoding.pixel_format, (encoding.width, encoding.height))
    return lambda frame, carrier: captioned(convert(frame.pixels), carrier)


def _fresh(open_encoder: OpenEncoder, encoding: Encoding, shape: Shape) -> tuple[SegmentEncoding, Convert]:
    return open_encoder(encoding, shape), _converter(encoding)


def _marked(
    frames: Iterator[Frame], length: Fraction, at_shots: bool, captions: Captions
) -> Iterator[tuple[bool, Captioned]]:
    """Yield each frame, with its captions, and with whether a segment starts with it."""
    start: int | None = None
    for frame in frames:
        first = start is None or _starts(frame, start, length, at_shots)
        start = frame.pts if first or start is None else start
        yield first, (frame, captions.take(frame.pts))


Converted = Iterator[tuple[VideoFrame, Frame]]


def _with_fresh_encoders(
    converted: Converted, open_encoder: OpenEncoder, encoding: Encoding, shape: Shape, at_shots: bool
) -> Generator[Piece]:
    """Encode each segment with an encoder of its own."""
    length = _length(encoding, shape)
    current: SegmentEncoding | None = None
    try:
        for picture, frame in converted:
            if current is not None and _starts(frame, current.start, length, at_shots):
                yield current.finish()
                current.close()
                current = None
            elif current is not None and encoding.encoder.fragment == "frame":
                yield current.take(last=False)
            current = current or open_encoder(encoding, shape)
            current.encode(picture, frame)
        if current is not None:
            yield current.finish()
    finally:
        if current is not None:
            current.close()


def _with_one_encoder(
    converted: Converted, open_encoder: OpenEncoder, encoding: Encoding, shape: Shape, following: Following | None
) -> Generator[Piece]:
    """Encode all segments with one encoder, and yield each frame as soon as it is encoded."""
    length = _length(encoding, shape)
    encoder = open_encoder(encoding, shape)
    before: Frame | None = None
    try:
        for picture, frame in converted:
            encoder.encode(picture, frame, key=before is not None and _is_far(before, frame))
            if following is not None:
                until = following(frame.pts) or 0
                frame = replace(frame, duration=max(frame.duration, until - frame.pts))
            before, end = frame, frame.pts + frame.duration
            last = end - encoder.start >= length
            if last or encoding.encoder.fragment == "frame":
                yield _lasting(encoder.take(last=last), end)
        if encoder.pending and before is not None:
            yield _lasting(encoder.finish(), before.pts + before.duration)
    finally:
        encoder.close()


def _lasting(piece: Piece, end: int) -> Piece:
    """Let each frame of a piece last until the next, and the last one until `end`, at least."""
    ends = [*(packet.pts for packet in piece.packets[1:]), end]
    for packet, until in zip(piece.packets, ends, strict=True):
        packet.duration = max(packet.duration or 0, (until or 0) - (packet.pts or 0))
    return replace(piece, duration=max(piece.duration, end - piece.pts))


def _is_far(before: Frame, frame: Frame) -> bool:
    """Tell whether so much is missing between two frames that players in browsers take nothing but a key frame."""
    return frame.pts - before.pts > 2 * before.duration


def _starts(frame: Frame, start: int, length: Fraction, at_shots: bool) -> bool:
    """Tell whether a frame starts a segment. start: of the segment before. length: ticks between two that start by their time."""
    return frame.pts // length > start // length or (at_shots and frame.shot)


def segment_length(encoder: Encoder) -> Fraction:
    """Return the seconds of which each multiple starts a segment."""
    return Fraction(encoder.segment_seconds).limit_denominator(1000)


def _length(encoding: Encoding, shape: Shape) -> Fraction:
    return segment_length(encoding.encoder) / shape.time_base
