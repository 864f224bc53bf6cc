"""Segments that are encoded at the same time, each by an encoder and in a thread of its own, and yielded in order.

A segment depends on nothing but its frames, so it comes out the same however many others are encoded beside it. Frames come in
order, so a segment that is encoded beside the one before it means frames of that one that wait for their encoder.
"""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from queue import SimpleQueue

from av import VideoFrame

from upres.engine.core.frame import Frame

from .encoder import Piece, SegmentEncoding

Captioned = tuple[Frame, VideoFrame | None]  # a frame, and what carries its captions
Convert = Callable[[Frame, VideoFrame | None], VideoFrame]
Start = Callable[[], tuple[SegmentEncoding, Convert]]  # what each segment is encoded with


def in_parallel(
    frames: Iterator[tuple[bool, Captioned]], start: Start, *, encoders: int, queue_bytes: int
) -> Generator[Piece]:
    """Encode up to `encoders` segments at once, and yield each whole in the order of its frames.

    frames: each with whether a segment starts with it. queue_bytes: of those that may wait for an encoder; one always may.
    What a segment raises is raised after the segments before it were yielded, and so is an error upstream. Closing this drops
    what is not finished.
    """
    room = _Room(queue_bytes)
    segments: deque[_Segment] = deque()
    failure: Exception | None = None
    with ThreadPoolExecutor(encoders, "encode") as pool:
        try:
            while room.open:  # until a segment has failed
                try:
                    first, captioned = next(frames)
                except StopIteration:
                    break
                except Exception as error:
                    failure = error
                    break
                if first:
                    if segments:
                        segments[-1].end()
                    while len(segments) >= encoders:
                        yield from _oldest(segments)
                    segments.append(_Segment(pool, start, room))
                segments[-1].push(captioned)
                while segments[0].done and len(segments) > 1:
                    yield from _oldest(segments)
            if segments and failure is None:
                segments[-1].end()
            while len(segments) > (failure is not None):  # the last one did not get all of its frames
                yield from _oldest(segments)
            if failure is not None:
                raise failure
        finally:
            room.close()
            for segment in segments:
                segment.drop()
            for segment in segments:
                segment.close()


def _oldest(segments: "deque[_Segment]") -> Generator[Piece]:
    """Wait for the oldest segment, yield it, and release its encoder."""
    yield segments[0].result()
    segments.popleft().close()


class _Room:
    """The bytes of the frames that wait. Once it is closed, nothing waits for room."""

    def __init__(self, most: int) -> None:
        self.open = True
        self._most = most
        self._taken = 0
        self._changed = threading.Condition()

    def take(self, size: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self.open or not self._taken or self._taken + size <= self._most)
            self._taken += size

    def free(self, size: int) -> None:
        with self._changed:
            self._taken -= size
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self.open = False
            self._changed.notify_all()


class _Segment:
    """A segment that a thread of the pool encodes, from its first frame on."""

    def __init__(self, pool: ThreadPoolExecutor, start: Start, room: _Room) -> None:
        self._start = start
        self._room = room
        self._waiting: SimpleQueue[Captioned | None] = SimpleQueue()
        self._dropped = False
        self._encoder: SegmentEncoding | None = None
        self._piece: Future[Piece] = pool.submit(self._encode)

    @property
    def done(self) -> bool:
        return self._piece.done()

    def push(self, captioned: Captioned) -> None:
        """Add a frame, once there is room."""
        self._room.take(captioned[0].pixels.nbytes)
        self._waiting.put(captioned)

    def end(self) -> None:
        """Encode what waits, and no more."""
        self._waiting.put(None)

    def drop(self) -> None:
        """Encode nothing more but the frame that is being encoded."""
        self._dropped = True
        self._waiting.put(None)

    def result(self) -> Piece:
        """Wait until it is whole; raise what encoding it raised."""
        return self._piece.result()

    def close(self) -> None:
        """Wait for the thread, and release the encoder, whose stream the piece is made of."""
        self._piece.exception()
        if self._encoder is not None:
            self._encoder.close()

    def _encode(self) -> Piece:
        try:
            self._encoder, convert = self._start()
            while (waiting := self._waiting.get()) is not None and not self._dropped:
                frame, carrier = waiting
                self._encoder.encode(convert(frame, carrier), frame)
                self._room.free(frame.pixels.nbytes)
                del waiting, frame
            if self._dropped:
                raise CancelledError
            return self._encoder.finish()
        except BaseException:
            self._room.close()
            raise
