"""A live source that the models are too slow for: what is late is passed over, so that nothing gets ever later."""

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from itertools import islice
from math import ceil, inf

from upres.engine.core.frame import Frame, Shape

from .stage import Stage

MOST_LATE = 3  # frames' time that a result may be late
BURST = 2  # frames' time between the first and the last of several that come at once
WINDOW_SECONDS = 2.0  # of arrivals that tell how long a frame is usually on its way; the longest burst of a live source
LOOK_SECONDS = 0.02  # between two looks at whether what waits still comes before its time
MOST_BYTES = 128 << 20  # of frames that may wait


class KeepUp(Stage[Frame]):
    """Frames read in a thread of its own, of which late ones are passed over while newer ones wait.

    Sources send in bursts: a frame is due when its time has passed since the slowest of those that came lately had come. It is
    late once the next is due as well and its result would come MOST_LATE frames after that. So a burst that the models work off
    until the next costs nothing, as long as it can wait: where it cannot, the oldest is passed over, late or not. For a window
    after something was late, all is that the next one has come for, or models that are too slow would only make what is nearly
    late; of sources that send no bursts, whatever has come is due. What comes more than a window before its time is from no live
    source but from a file, and waits as any other; not where its bytes were waited for, as those of a live source are, however
    much of it was sent while the models were loaded. So a file over a link that keeps its reader waiting counts as live.
    waits: how often there was nothing yet to be read. in_turns: models and encoder compute on the same cores. Where these are too
    slow, a frame is taken once the one before is encoded: side by side both would take longer, and make as much.
    turned: called with the seconds that the models waited for that.
    as_recorded: the source is known to be live, so what comes before its time was held up on its way, and does not wait.
    shape: of the frames. dropped: called for each that is passed over. stop: as a Stage's.
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
        self._waits_before, self._waited = 0, False  # and whether that was so with the newest frame
        self._clock = clock
        self._offsets: deque[tuple[float, float]] = deque()
        self._pace = inf  # the lowest offset that was usual: sources that stall for once come no faster after that
        self._held = -inf  # when the source was last kept from sending
        self._late = -inf  # when something was last late
        self._next_is_known = False  # what waits longest follows a result that lasts until it
        self._used: deque[tuple[int, float]] = deque()  # frames whose results are not encoded yet, and since when
        self._takes = 0.0  # seconds, from a frame's use to that
        self._given = -inf  # the time of the newest result, which the encoder has
        self._waits_since: float | None = None  # when the models were first kept from a frame by the encoder's turn
        self._holds = False  # models that hold frames take them in turns of their own
        super().__init__(
            frames,
            budget=keep_up_budget(shape),
            size=lambda frame: frame.pixels.nbytes,
            name="read",
            stop=stop,
        )

    def given(self, results: Generator[Frame]) -> Generator[Frame]:
        """Yield what the models give, in their thread, and note it: what they hold back, the encoder's turn is not waited for."""
        with closing(results):
            for frame in results:
                self._given = frame.pts
                yield frame

    def following(self, pts: int) -> int | None:
        """Return the time of the frame whose result follows that of another, which is encoded now; None where none has come.

        Results have to last that long, over what was dropped between: players stop at holes.
        """
        with self._changed:
            while self._used and self._used[0][0] <= pts:
                self._takes = self._clock() - self._used.popleft()[1]
            if not self._encoder_works:
                self._note_turn()
            self._changed.notify_all()
            if self._used:
                return self._used[0][0]
            if self._queue and not self._next_is_known:
                self._pass_over_late()
                self._next_is_known = True
            return self._queue[0].pts if self._queue else None

    def _may_go(self) -> bool:
        if not super()._may_go():
            return False
        waits = self._encoder_works and self._in_turns and self._is_behind and self._takes > self._interval
        if waits and self._waits_since is None:
            self._waits_since = self._clock()
        return not waits

    @property
    def _encoder_works(self) -> bool:
        return bool(self._used) and self._used[0][0] <= self._given

    def _note_turn(self) -> None:
        if self._waits_since is not None:
            self._turned(self._clock() - self._waits_since)
            self._waits_since = None

    def _taken(self) -> Frame:
        self._note_turn()
        self._holds = self._holds or (bool(self._used) and self._used[-1][0] > self._given)
        if not self._next_is_known:
            self._pass_over_late()
        self._next_is_known = False
        frame = super()._taken()
        self._used.append((frame.pts, self._clock()))
        return frame

    def _pass_over_late(self) -> None:
        while len(self._queue) > 1 and self._is_late():
            self._late = self._clock()
            self._pass_over()

    def _put(self, item: Frame) -> bool:
        with self._changed:
            self._note(item)
            while not self._closed and not self._fits(item):
                if self._is_early(item):
                    self._held = self._clock()
                    self._changed.wait(LOOK_SECONDS)
                else:
                    self._pass_over()
        return super()._put(item)

    def _note(self, item: Frame) -> None:
        """Note how far a frame's arrival is behind its time. Of one that was kept from coming it says nothing."""
        now, waits = self._clock(), self._waits()
        self._waited, self._waits_before = waits > self._waits_before, waits
        self._offsets.append((now, now - item.pts * self._tick))
        while self._offsets[0][0] < now - WINDOW_SECONDS:
            self._offsets.popleft()
        if not self._was_held():
            self._pace = min(self._pace, self._usual())

    def _usual(self) -> float:
        return max(offset for _, offset in self._offsets)

    def _was_held(self) -> bool:
        return self._clock() < self._held + WINDOW_SECONDS

    def _is_early(self, item: Frame) -> bool:
        """Tell whether a frame has come so long before its time as none of a live source does."""
        early = self._clock() < item.pts * self._tick + self._pace - WINDOW_SECONDS
        return early and not self._as_recorded and not self._waited

    @property
    def _is_behind(self) -> bool:
        """Whether something was late lately, by models that take frames one by one."""
        return not self._holds and self._clock() < self._late + WINDOW_SECONDS

    def _is_late(self) -> bool:
        """Tell whether the frame that waits longest is late. When it came says nothing where it was kept from coming."""
        now, usual = self._clock(), self._due_after()
        due, next_due = (item.pts * self._tick + usual for item in islice(self._queue, 2))
        if self._was_held() or now < next_due:
            return False
        takes = 0.0 if self._holds else self._takes
        return self._is_behind or now + takes > due + MOST_LATE * self._interval

    def _due_after(self) -> float:
        """Return how many seconds after its time a frame is due."""
        usual, least = self._usual(), min(offset for _, offset in self._offsets)
        return usual if usual - least > BURST * self._interval else least

    def _fits(self, item: Frame) -> bool:
        return len(self._queue) == self._next_is_known or super()._fits(item)

    def _pass_over(self) -> None:
        """Drop the frame that waits longest and may be dropped."""
        item = self._queue[self._next_is_known]
        del self._queue[self._next_is_known]
        self._bytes -= self._size(item)
        self._dropped()


def keep_up_budget(shape: Shape) -> int:
    """Bound the bytes of frames that may wait: two windows of them, so that a burst does and a file is known by them."""
    frame = shape.width * shape.height * 3
    return max(frame, min(MOST_BYTES, ceil(2 * WINDOW_SECONDS * shape.rate) * frame))
