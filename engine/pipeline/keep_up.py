"""Reader stage for live sources that drops late frames, so that latency does not grow if the models are too slow."""

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from itertools import islice
from math import ceil, inf

from upres.engine.core.frame import Frame, Shape

from .stage import Stage

MAX_LATE_INTERVALS = 3  # limit on the delay of a result, in frame intervals
STEADY_SPREAD_INTERVALS = (
    2  # arrival delays that differ by more than this many frame intervals show that the source sends in bursts
)
WINDOW_SECONDS = 2.0  # period over which arrival delays are observed; also the longest burst expected of a live source
POLL_SECONDS = 0.02  # interval between two checks of whether a blocked frame is still early
MAX_QUEUE_BYTES = 128 << 20  # limit on the size of all frames in the queue


class KeepUp(Stage[Frame]):
    """Stage that reads frames in its own thread and drops late ones while newer ones are waiting.

    Sources often send frames in bursts. A frame is due at its timestamp plus the greatest arrival delay observed recently; if the
    delays differ little, the source does not send in bursts, and the smallest delay counts instead. A frame is late if the next
    frame is due as well and its own result would be more than MAX_LATE_INTERVALS frame intervals behind. Therefore no frame of a
    burst is dropped if the burst fits into the queue and the models finish it before the next one. If a frame does not fit into
    the queue, the oldest queued frame is dropped, late or not. For one window after a late frame, any frame whose successor is due
    counts as late. Otherwise models that are too slow would only ever process frames that are nearly late.

    A frame that arrives more than one window before its timestamp comes from a file rather than a live source, so reading blocks
    instead of dropping frames. The exception is a frame whose bytes the reader had to wait for: this indicates a live source of
    which much was sent while the models were loading. A file over a link that keeps its reader waiting therefore counts as live.

    shape: of the frames. on_drop: called for each dropped frame. stop: as in Stage. count_waits: returns how often the reader has
    waited for data so far. shares_cores: models and encoder run on the same cores; if they are too slow, a frame is handed out only
    once the previous one has been encoded, because running both concurrently would take longer for the same number of frames.
    on_encoder_wait: called with the seconds that the models waited for that. as_recorded: the source is known to be live, so frames
    that arrive before their time were delayed on their way, and reading does not block for them.
    """

    def __init__(
        self,
        frames: Iterable[Frame],
        shape: Shape,
        on_drop: Callable[[], None],
        stop: Callable[[], None] = lambda: None,
        *,
        count_waits: Callable[[], int] = lambda: 0,
        shares_cores: bool = False,
        on_encoder_wait: Callable[[float], None] = lambda seconds: None,
        as_recorded: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._as_recorded, self._shares_cores = as_recorded, shares_cores
        self._tick = float(shape.time_base)
        self._interval = 1 / float(shape.rate)
        self._on_drop, self._count_waits, self._on_encoder_wait = on_drop, count_waits, on_encoder_wait
        # The number of waits so far, and whether it increased with the newest frame.
        self._last_wait_count, self._reader_waited = 0, False
        self._clock = clock
        # Recent arrivals: their time, and their offset, which is the time minus the timestamp.
        self._offsets: deque[tuple[float, float]] = deque()
        self._normal_offset = inf  # minimum of the greatest offset over time, so that one stall has no lasting effect
        self._blocked_at = -inf  # when reading from the source was last blocked
        self._late_at = -inf  # when a frame was last late
        self._next_is_fixed = False  # the oldest queued frame must not be dropped: the previous result lasts until it
        # Timestamps of frames whose results are not encoded yet, and when each was handed out.
        self._in_progress: deque[tuple[int, float]] = deque()
        self._turnaround = 0.0  # seconds from handing out a frame until its result is encoded
        self._newest_result = -inf  # timestamp of the newest result that the encoder has received
        self._models_wait_since: float | None = None  # since when the models have been waiting for the encoder
        # The models return a result only some frames later, so models and encoder cannot alternate frame by frame.
        self._models_hold_frames = False
        super().__init__(
            frames,
            budget=keep_up_budget(shape),
            size=lambda frame: frame.pixels.nbytes,
            name="read",
            stop=stop,
        )

    def tracked(self, results: Generator[Frame]) -> Generator[Frame]:
        """Yield the models' results, in their thread, and record them, so that frames that the models still hold are not taken for
        the encoder's work.
        """
        with closing(results):
            for frame in results:
                self._newest_result = frame.pts
                yield frame

    def following(self, pts: int) -> int | None:
        """Record that the frame with timestamp `pts` was encoded; return the timestamp of the next one, None if none has arrived.

        A result has to last until then, across dropped frames: players stop at gaps. So the next frame is not dropped afterwards.
        """
        with self._changed:
            while self._in_progress and self._in_progress[0][0] <= pts:
                self._turnaround = self._clock() - self._in_progress.popleft()[1]
            if not self._encoder_is_busy:
                self._end_encoder_wait()
            self._changed.notify_all()
            if self._in_progress:
                return self._in_progress[0][0]
            if self._queue and not self._next_is_fixed:
                self._drop_late()
                self._next_is_fixed = True
            return self._queue[0].pts if self._queue else None

    def _can_pop(self) -> bool:
        if not super()._can_pop():
            return False
        must_wait = (
            self._encoder_is_busy and self._shares_cores and self._is_behind and self._turnaround > self._interval
        )
        if must_wait and self._models_wait_since is None:
            self._models_wait_since = self._clock()
        return not must_wait

    @property
    def _encoder_is_busy(self) -> bool:
        return bool(self._in_progress) and self._in_progress[0][0] <= self._newest_result

    def _end_encoder_wait(self) -> None:
        if self._models_wait_since is not None:
            self._on_encoder_wait(self._clock() - self._models_wait_since)
            self._models_wait_since = None

    def _pop(self) -> Frame:
        self._end_encoder_wait()
        no_result_yet = bool(self._in_progress) and self._in_progress[-1][0] > self._newest_result
        self._models_hold_frames = self._models_hold_frames or no_result_yet
        if not self._next_is_fixed:
            self._drop_late()
        self._next_is_fixed = False
        frame = super()._pop()
        self._in_progress.append((frame.pts, self._clock()))
        return frame

    def _drop_late(self) -> None:
        while len(self._queue) > 1 and self._is_late():
            self._late_at = self._clock()
            self._drop_oldest()

    def _put(self, item: Frame) -> bool:
        with self._changed:
            self._note_arrival(item)
            while not self._closed and not self._fits(item):
                if self._is_early(item):
                    self._blocked_at = self._clock()
                    self._changed.wait(POLL_SECONDS)
                else:
                    self._drop_oldest()
        return super()._put(item)

    def _note_arrival(self, item: Frame) -> None:
        """Record how long after its timestamp a frame arrived. Arrivals just after reading was blocked are not representative."""
        now, waits = self._clock(), self._count_waits()
        self._reader_waited, self._last_wait_count = waits > self._last_wait_count, waits
        self._offsets.append((now, now - item.pts * self._tick))
        while self._offsets[0][0] < now - WINDOW_SECONDS:
            self._offsets.popleft()
        if not self._was_blocked():
            self._normal_offset = min(self._normal_offset, self._greatest_offset())

    def _greatest_offset(self) -> float:
        return max(offset for _, offset in self._offsets)

    def _was_blocked(self) -> bool:
        return self._clock() < self._blocked_at + WINDOW_SECONDS

    def _is_early(self, item: Frame) -> bool:
        """Report whether a frame arrived so long before its timestamp that it cannot come from a live source."""
        early = self._clock() < item.pts * self._tick + self._normal_offset - WINDOW_SECONDS
        return early and not self._as_recorded and not self._reader_waited

    @property
    def _is_behind(self) -> bool:
        """Whether a frame was late recently, with models that do not hold frames back."""
        return not self._models_hold_frames and self._clock() < self._late_at + WINDOW_SECONDS

    def _is_late(self) -> bool:
        """Report whether the oldest queued frame is late; False for a window after reading was blocked, when
        arrivals are not representative.
        """
        now, offset = self._clock(), self._due_offset()
        due, next_due = (item.pts * self._tick + offset for item in islice(self._queue, 2))
        if self._was_blocked() or now < next_due:
            return False
        remaining = 0.0 if self._models_hold_frames else self._turnaround
        return self._is_behind or now + remaining > due + MAX_LATE_INTERVALS * self._interval

    def _due_offset(self) -> float:
        """Return how many seconds after its timestamp a frame is due."""
        greatest, smallest = self._greatest_offset(), min(offset for _, offset in self._offsets)
        return greatest if greatest - smallest > STEADY_SPREAD_INTERVALS * self._interval else smallest

    def _fits(self, item: Frame) -> bool:
        return len(self._queue) == self._next_is_fixed or super()._fits(item)

    def _drop_oldest(self) -> None:
        """Drop the oldest queued frame that may be dropped."""
        item = self._queue[self._next_is_fixed]
        del self._queue[self._next_is_fixed]
        self._bytes -= self._size(item)
        self._on_drop()


def keep_up_budget(shape: Shape) -> int:
    """Return the maximum size in bytes of all queued frames: two windows, for a burst and for recognizing a file, but at
    most MAX_QUEUE_BYTES, so large frames get less than that.
    """
    frame = shape.frame_bytes
    return max(frame, min(MAX_QUEUE_BYTES, ceil(2 * WINDOW_SECONDS * shape.rate) * frame))
