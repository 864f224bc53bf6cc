"""Reader stage for live sources that drops late frames, so that latency does not grow if the models are too slow."""

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from itertools import islice
from math import ceil, inf

from upres.engine.core.frame import Frame, Shape

from .stage import Stage

MOST_LATE = 3  # frame intervals that a result may be late
BURST = 2  # frame intervals between the first and the last arrival of a burst
WINDOW_SECONDS = 2.0  # period over which arrival delays are observed; also the longest burst expected of a live source
LOOK_SECONDS = 0.02  # interval at which a blocked frame is checked for whether it is still early
MOST_BYTES = 128 << 20  # limit on the frames in the queue


class KeepUp(Stage[Frame]):
    """Stage that reads frames in its own thread and drops late ones while newer ones are waiting.

    Sources send in bursts. A frame is due once its timestamp has passed, plus the greatest arrival delay observed recently. It is
    late if the next frame is due as well and its result would be more than MOST_LATE frames behind. So a burst that the models
    finish before the next one costs nothing as long as it fits into the queue. If it does not fit, the oldest frame is dropped,
    late or not. For one window after a late frame, any frame whose successor is due counts as late. Otherwise models that are
    too slow would only ever process frames that are nearly late. For sources without bursts, a frame is due on arrival.

    A frame that arrives more than one window before its timestamp comes from a file rather than a live source, so reading blocks
    instead of dropping frames. The exception is a frame whose bytes the reader had to wait for, as with a live source, even if
    much was sent while the models were loading. A file over a link that keeps its reader waiting therefore counts as live.

    shape: of the frames. dropped: called for each dropped frame. stop: as in Stage. waits: returns how often the reader has found
    nothing to read. in_turns: models and encoder run on the same cores; if these are too slow, a frame is handed out only once the
    previous one has been encoded, because running both concurrently would take longer for the same number of frames.
    turned: called with the seconds that the models waited for that. as_recorded: the source is known to be live, so frames that
    arrive before their time were delayed on their way, and reading does not block for them.
    """

    def __init__(
        self,
        frames: Iterable[Frame],
        shape: Shape,
        dropped: Callable[[], None],
        stop: Callable[[], None] = lambda: None,
        *,
        waits: Callable[[], int] = lambda: 0,
        in_turns: bool = False,
        turned: Callable[[float], None] = lambda seconds: None,
        as_recorded: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._as_recorded, self._in_turns = as_recorded, in_turns
        self._tick = float(shape.time_base)
        self._interval = 1 / float(shape.rate)
        self._dropped, self._waits, self._turned = dropped, waits, turned
        self._waits_before, self._waited = 0, False  # count of waits, and whether the newest frame increased it
        self._clock = clock
        self._offsets: deque[tuple[float, float]] = deque()  # recent arrivals: when, and how long after their timestamp
        self._pace = inf  # the lowest usual offset: a source that stalls once does not count as slower from then on
        self._blocked = -inf  # when the source was last kept from sending
        self._late = -inf  # when a frame was last late
        self._next_is_known = False  # the oldest queued frame must not be dropped: the previous result lasts until it
        self._used: deque[tuple[int, float]] = deque()  # frames whose results are not encoded yet, and since when
        self._turnaround = 0.0  # seconds from handing out a frame until its result is encoded
        self._newest_result = -inf  # timestamp of the newest result that the encoder has received
        self._waits_since: float | None = None  # since when the models have been waiting for the encoder
        self._holds = False  # the models hold frames back, so they and the encoder do not alternate frame by frame
        super().__init__(
            frames,
            budget=keep_up_budget(shape),
            size=lambda frame: frame.pixels.nbytes,
            name="read",
            stop=stop,
        )

    def tracked(self, results: Generator[Frame]) -> Generator[Frame]:
        """Yield the models' results, in their thread, and record them: the encoder cannot be working on frames still held back."""
        with closing(results):
            for frame in results:
                self._newest_result = frame.pts
                yield frame

    def following(self, pts: int) -> int | None:
        """Return the timestamp of the frame after the one with timestamp `pts`, which is being encoded; None if none has arrived.

        A result has to last until then, across dropped frames: players stop at gaps.
        """
        with self._changed:
            while self._used and self._used[0][0] <= pts:
                self._turnaround = self._clock() - self._used.popleft()[1]
            if not self._encoder_works:
                self._note_turn()
            self._changed.notify_all()
            if self._used:
                return self._used[0][0]
            if self._queue and not self._next_is_known:
                self._drop_late()
                self._next_is_known = True
            return self._queue[0].pts if self._queue else None

    def _can_pop(self) -> bool:
        if not super()._can_pop():
            return False
        waits = self._encoder_works and self._in_turns and self._is_behind and self._turnaround > self._interval
        if waits and self._waits_since is None:
            self._waits_since = self._clock()
        return not waits

    @property
    def _encoder_works(self) -> bool:
        return bool(self._used) and self._used[0][0] <= self._newest_result

    def _note_turn(self) -> None:
        if self._waits_since is not None:
            self._turned(self._clock() - self._waits_since)
            self._waits_since = None

    def _pop(self) -> Frame:
        self._note_turn()
        self._holds = self._holds or (bool(self._used) and self._used[-1][0] > self._newest_result)
        if not self._next_is_known:
            self._drop_late()
        self._next_is_known = False
        frame = super()._pop()
        self._used.append((frame.pts, self._clock()))
        return frame

    def _drop_late(self) -> None:
        while len(self._queue) > 1 and self._is_late():
            self._late = self._clock()
            self._drop_oldest()

    def _put(self, item: Frame) -> bool:
        with self._changed:
            self._note_arrival(item)
            while not self._closed and not self._fits(item):
                if self._is_early(item):
                    self._blocked = self._clock()
                    self._changed.wait(LOOK_SECONDS)
                else:
                    self._drop_oldest()
        return super()._put(item)

    def _note_arrival(self, item: Frame) -> None:
        """Record how long after its timestamp a frame arrived. After the source was blocked, arrivals are not representative."""
        now, waits = self._clock(), self._waits()
        self._waited, self._waits_before = waits > self._waits_before, waits
        self._offsets.append((now, now - item.pts * self._tick))
        while self._offsets[0][0] < now - WINDOW_SECONDS:
            self._offsets.popleft()
        if not self._was_blocked():
            self._pace = min(self._pace, self._usual())

    def _usual(self) -> float:
        return max(offset for _, offset in self._offsets)

    def _was_blocked(self) -> bool:
        return self._clock() < self._blocked + WINDOW_SECONDS

    def _is_early(self, item: Frame) -> bool:
        """Report whether a frame arrived so long before its timestamp that it cannot come from a live source."""
        early = self._clock() < item.pts * self._tick + self._pace - WINDOW_SECONDS
        return early and not self._as_recorded and not self._waited

    @property
    def _is_behind(self) -> bool:
        """Whether a frame was late recently, with models that do not hold frames back."""
        return not self._holds and self._clock() < self._late + WINDOW_SECONDS

    def _is_late(self) -> bool:
        """Report whether the oldest queued frame is late. After the source was blocked, arrival times do not show that."""
        now, usual = self._clock(), self._due_after()
        due, next_due = (item.pts * self._tick + usual for item in islice(self._queue, 2))
        if self._was_blocked() or now < next_due:
            return False
        takes = 0.0 if self._holds else self._turnaround
        return self._is_behind or now + takes > due + MOST_LATE * self._interval

    def _due_after(self) -> float:
        """Return how many seconds after its timestamp a frame is due."""
        usual, least = self._usual(), min(offset for _, offset in self._offsets)
        return usual if usual - least > BURST * self._interval else least

    def _fits(self, item: Frame) -> bool:
        return len(self._queue) == self._next_is_known or super()._fits(item)

    def _drop_oldest(self) -> None:
        """Drop the oldest queued frame that may be dropped."""
        item = self._queue[self._next_is_known]
        del self._queue[self._next_is_known]
        self._bytes -= self._size(item)
        self._dropped()


def keep_up_budget(shape: Shape) -> int:
    """Return how many bytes of frames may be queued: two windows, enough for a burst and for recognizing a file."""
    frame = shape.width * shape.height * 3
    return max(frame, min(MOST_BYTES, ceil(2 * WINDOW_SECONDS * shape.rate) * frame))
