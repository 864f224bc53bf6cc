"""Concurrent encoding of segments, each with a separate encoder and thread; the results are yielded in order.

A segment depends only on its frames, so the result is the same regardless of the number of concurrent encoders. Frames arrive in
order, so to encode two consecutive segments at once, frames of the first one have to wait in a queue.
"""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from queue import SimpleQueue

from av import VideoFrame

from upres.engine.core.frame import Frame

from .encoder import Piece, SegmentEncoding

Captioned = tuple[Frame, VideoFrame | None]  # a frame, and the carrier of its captions
Convert = Callable[[Frame, VideoFrame | None], VideoFrame]
Start = Callable[[], tuple[SegmentEncoding, Convert]]  # creates encoder and converter for a segment


def in_parallel(
    frames: Iterator[tuple[bool, Captioned]], start: Start, *, encoders: int, queue_bytes: int
) -> Generator[Piece]:
    """Encode up to `encoders` segments at once; yield each complete segment, in order.

    frames: each preceded by whether it starts a segment. queue_bytes: maximum size of frames that wait for an encoder; one may
    always wait. An error in a segment or in `frames` is raised after all earlier segments were yielded. Closing the generator
    discards unfinished segments.
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
            while len(segments) > (failure is not None):  # after a failure, the last one lacks some of its frames
                yield from _oldest(segments)
            if failure is not None:
                raise failure
        finally:
            for segment in segments:
                segment.drop()
            for segment in segments:
                segment.close()


def _oldest(segments: "deque[_Segment]") -> Generator[Piece]:
    """Wait for the oldest segment, yield it, and release its encoder."""
    yield segments[0].result()
    segments.popleft().close()


class _Room:
    """Limit on the bytes of waiting frames. Once closed, `reserve` no longer blocks."""

    def __init__(self, most: int) -> None:
        self.open = True
        self._most = most
        self._used = 0
        self._changed = threading.Condition()

    def reserve(self, size: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self.open or not self._used or self._used + size <= self._most)
            self._used += size

    def release(self, size: int) -> None:
        with self._changed:
            self._used -= size
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self.open = False
            self._changed.notify_all()


class _Segment:
    """A segment that is encoded in a thread of the pool while its frames are added."""

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
        """Add a frame; blocks until there is room."""
        self._room.reserve(captioned[0].pixels.nbytes)
        self._waiting.put(captioned)

    def end(self) -> None:
        """Mark the end of the segment; frames that still wait are encoded."""
        self._waiting.put(None)

    def drop(self) -> None:
        """Abandon the segment after the frame that is being encoded."""
        self._dropped = True
        self._waiting.put(None)

    def result(self) -> Piece:
        """Wait until the segment is encoded; re-raise the error if encoding failed."""
        return self._piece.result()

    def close(self) -> None:
        """Wait for the thread, and release the encoder. The piece must not be used after that, because it refers to its stream."""
        self._piece.exception()
        if self._encoder is not None:
            self._encoder.close()

    def _encode(self) -> Piece:
        try:
            self._encoder, convert = self._start()
            while (waiting := self._waiting.get()) is not None and not self._dropped:
                frame, carrier = waiting
                self._encoder.encode(convert(frame, carrier), frame)
                self._room.release(frame.pixels.nbytes)
                del waiting, frame
            if self._dropped:
                raise CancelledError
            return self._encoder.finish()
        except BaseException:
            self._room.close()
            raise
