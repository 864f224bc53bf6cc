"""A live source that the models are too slow for: what is late is passed over, so that nothing gets ever later."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from math import ceil, inf

from upres.engine.core.frame import Frame, Shape

from .stage import Stage

MOST_LATE = 3  # frames' time that a frame may be used late
WINDOW_SECONDS = 2.0  # of arrivals that tell how long a frame is usually on its way; the longest burst of a live source
LOOK_SECONDS = 0.02  # between two looks at whether what waits still comes before its time
MOST_BYTES = 128 << 20  # of frames that may wait


class KeepUp(Stage[Frame]):
    """Frames read in a thread of its own, of which late ones are passed over while newer ones wait.

    Sources send in bursts: a frame is due when its time has passed since the slowest of those that came lately had come, and
    late MOST_LATE frames after that. So a burst that the models work off until the next costs nothing, as long as it can wait:
    where it cannot, the oldest is passed over, late or not. What comes more than a window before its time is from no live
    source but from a file, and waits as any other.
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
        as_recorded: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._as_recorded = as_recorded
        self._tick = float(shape.time_base)
        self._patience = MOST_LATE / float(shape.rate)
        self._dropped = dropped
        self._clock = clock
        self._offsets: deque[tuple[float, float]] = deque()
        self._pace = inf  # the lowest offset that was usual: sources that stall for once come no faster after that
        self._held = -inf  # when the source was last kept from sending
        self._claimed: Frame | None = None
        self._used: deque[int] = deque()
        super().__init__(
            frames,
            budget=keep_up_budget(shape),
            size=lambda frame: frame.pixels.nbytes,
            name="read",
            stop=stop,
        )

    def frames(self) -> Iterator[Frame]:
        """Yield the frames that are used."""
        while (frame := self._next()) is not None:
            self._used.append(frame.pts)
            yield frame

    def covering(self, results: Iterable[Frame]) -> Iterator[Frame]:
        """Make each result last until the next, over what was dropped between: players stop at holes.

        To be consumed by the thread that consumes `frames`: the frame that follows is the one it will be given next.
        """
        for result in results:
            while self._used and self._used[0] <= result.pts:
                self._used.popleft()
            following = self._used[0] if self._used else self._claim()
            end = result.pts + result.duration
            yield result if following is None or following <= end else replace(result, duration=following - result.pts)

    def _next(self) -> Frame | None:
        frame, self._claimed = self._claimed, None
        return frame if frame is not None else next(self.results(), None)

    def _claim(self) -> int | None:
        """Take the frame that waits, if there is one, for the next turn; return its time."""
        if self._claimed is None:
            self._claimed = self.waiting()
        return None if self._claimed is None else self._claimed.pts

    def _taken(self) -> Frame:
        while len(self._queue) > 1 and self._is_late():
            self._pass_over()
        return super()._taken()

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
        now = self._clock()
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
        return early and not self._as_recorded

    def _is_late(self) -> bool:
        """Tell whether the frame that waits longest is late. When it came says nothing where it was kept from coming."""
        if self._was_held():
            return False
        return self._clock() > self._queue[0].pts * self._tick + self._usual() + self._patience

    def _pass_over(self) -> None:
        super()._taken()
        self._dropped()


def keep_up_budget(shape: Shape) -> int:
    """Bound the bytes of frames that may wait: two windows of them, so that a burst does and a file is known by them."""
    frame = shape.width * shape.height * 3
    return max(frame, min(MOST_BYTES, ceil(2 * WINDOW_SECONDS * shape.rate) * frame))
