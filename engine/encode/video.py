"""Encoding of frames into segments, published as a whole or frame by frame.

Each segment has a new encoder, so that it depends only on its frames, and several can be encoded at once. The start of a segment
depends only on the times of frames, so that a run from the middle of a source produces the same segments. A live source keeps one
encoder, which starts every segment with an IDR frame.
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
    """Encode frames; yield pieces of one segment or one frame each.

    A segment starts with the first frame at or after each multiple of `segment_seconds`, and at shots if `at_shots`.
    A frame is yielded only after the next one has arrived, which shows whether it is the last of its segment. For a live source,
    its duration decides that instead, shots are ignored, and the last segment may remain without an end.
    encoders: number of segments to encode at once if segments are published as a whole; the bytes are the same.
    open_encoder: creates an encoder.
    following: for a live source that drops frames, called with the pts of each encoded frame; returns the pts of the next frame, up
    to which it is shown, or None if that is unknown.
    """
    captions = captions or Captions()
    if encoders > 1 and not encoding.encoder.live and encoding.encoder.fragment == "segment":
        marked = _marked(frames, _length(encoding, shape), at_shots, captions)
        queue_bytes = waiting_bytes(encoding, shape, encoders)
        start = partial(_fresh, open_encoder, encoding, shape)
        return in_parallel(marked, start, encoders=encoders, queue_bytes=queue_bytes)
    convert = _converter(encoding)
    converted = ((convert(frame, captions.pop(frame.pts)), frame) for frame in frames)
    if encoding.encoder.live:
        return _with_one_encoder(converted, open_encoder, encoding, shape, following)
    return _with_fresh_encoders(converted, open_encoder, encoding, shape, at_shots)


def waiting_bytes(encoding: Encoding, shape: Shape, encoders: int) -> int:
    """Return how many bytes of frames must be able to wait, so that this number of encoders always have work.

    Frames arrive in segment order, so frames of earlier segments wait while those of later ones arrive: nearly none of a segment
    that is almost encoded, nearly all of one that was just filled. On average that is half a segment for each encoder but one.
    """
    frames = math.ceil(encoding.encoder.segment_seconds * shape.rate / 2)
    return (encoders - 1) * frames * shape.frame_bytes


def _converter(encoding: Encoding) -> Convert:
    """Return a function that converts frames to the encoder's format; for use in one thread."""
    convert = FromRGB(encoding.color, encoding.pixel_format, (encoding.width, encoding.height))
    return lambda frame, carrier: captioned(convert(frame.pixels), carrier)


def _fresh(open_encoder: OpenEncoder, encoding: Encoding, shape: Shape) -> tuple[SegmentEncoding, Convert]:
    return open_encoder(encoding, shape), _converter(encoding)


def _marked(
    frames: Iterator[Frame], length: Fraction, at_shots: bool, captions: Captions
) -> Iterator[tuple[bool, Captioned]]:
    """Yield each frame with its captions, preceded by whether it starts a segment."""
    start: int | None = None
    for frame in frames:
        first = start is None or _starts(frame, start, length, at_shots)
        start = frame.pts if first or start is None else start
        yield first, (frame, captions.pop(frame.pts))


Converted = Iterator[tuple[VideoFrame, Frame]]


def _with_fresh_encoders(
    converted: Converted, open_encoder: OpenEncoder, encoding: Encoding, shape: Shape, at_shots: bool
) -> Generator[Piece]:
    """Encode each segment with a separate encoder."""
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
    """Encode all segments with one encoder; yield each frame as soon as it is encoded."""
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
    """Extend durations so that each frame of a piece lasts at least until the next, and the last one until `end`."""
    ends = [*(packet.pts for packet in piece.packets[1:]), end]
    for packet, until in zip(piece.packets, ends, strict=True):
        packet.duration = max(packet.duration or 0, (until or 0) - (packet.pts or 0))
    return replace(piece, duration=max(piece.duration, end - piece.pts))


def _is_far(before: Frame, frame: Frame) -> bool:
    """Report whether the gap between two frames is so long that players in browsers require a keyframe after it."""
    return frame.pts - before.pts > 2 * before.duration


def _starts(frame: Frame, start: int, length: Fraction, at_shots: bool) -> bool:
    """Report whether a frame starts a segment. start: pts of the current segment. length: nominal length in ticks."""
    return frame.pts // length > start // length or (at_shots and frame.shot)


def segment_length(encoder: Encoder) -> Fraction:
    """Return the nominal segment length in seconds; segments start at its multiples."""
    return Fraction(encoder.segment_seconds).limit_denominator(1000)


def _length(encoding: Encoding, shape: Shape) -> Fraction:
    return segment_length(encoding.encoder) / shape.time_base
