"""A live source never waits: where the models are slower than it, they get the newest frame, and the others are dropped."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import replace

from upres.engine.core.frame import Frame

from .stage import Stage


class Newest(Stage[Frame]):
    """Frames read in a thread, of which a consumer gets the newest whenever it is ready for one.

    dropped: called for each frame that a newer one took the place of before it was used.
    """

    def __init__(self, frames: Iterable[Frame], dropped: Callable[[], None]) -> None:
        super().__init__(frames, budget=0, size=lambda frame: 0, name="read")
        self._dropped = dropped
        self._claimed: Frame | None = None
        self._used: deque[int] = deque()

    def frames(self, stop: Callable[[], None]) -> Generator[Frame]:
        """Yield the newest frame each time; closing this ends the thread. stop: called then, to end what waits for the source."""
        try:
            while (frame := self._next()) is not None:
                self._used.append(frame.pts)
                yield frame
        finally:
            self.close(stop)

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

    def _put(self, item: Frame) -> bool:
        with self._changed:
            if self._queue:
                self._queue.clear()
                self._dropped()
        return super()._put(item)
