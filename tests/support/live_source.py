"""A simulated live source for `KeepUp`, with a clock that the test sets."""

import threading
from dataclasses import replace
from fractions import Fraction

import numpy as np

from upres.engine.core.frame import Color, Frame, Shape
from upres.engine.pipeline.keep_up import KeepUp

SHAPE = Shape(2, 2, Fraction(1, 10), Fraction(10), Fraction(1), Color("bt709", "tv", "bt709", "bt709"))


class World:
    """A source of ten frames a second, and a clock that the test sets."""

    def __init__(self, width=2, height=2, **settings):
        # A broadcast view: it has the nbytes of a full frame, but uses one byte of memory.
        self._pixels = np.broadcast_to(np.uint8(0), (height, width, 3))
        self.now, self.dropped = 0.0, []
        self._turn, self._requested = threading.Semaphore(0), threading.Semaphore(0)
        self._pts, self._end = 0, None
        self.stage = KeepUp(
            self._source(),
            replace(SHAPE, width=width, height=height),
            lambda: self.dropped.append(1),
            self.finish,
            clock=lambda: self.now,
            **settings,
        )
        self.unrecorded = self.stage.results()
        # The results of a model that returns each result immediately.
        self.frames = self.stage.tracked(self.unrecorded)

    def _source(self):
        while True:
            self._requested.release()
            assert self._turn.acquire(timeout=30)
            if self._end:
                if isinstance(self._end, Exception):
                    raise self._end
                return
            yield Frame(self._pixels, self._pts, 1)
            self._pts += 1

    def bring(self, count=1):
        """Make frames arrive, and wait until they are queued."""
        for _ in range(count):
            assert self._requested.acquire(timeout=30)
            self._turn.release()
        assert self._requested.acquire(timeout=30)
        self._requested.release()

    def work(self, seconds):
        """Advance the clock, with frames arriving in the meantime."""
        end = self.now + seconds
        while self._pts / 10 <= end + 1e-9:
            self.now = self._pts / 10
            self.bring()
        self.now = end

    @property
    def waits(self):
        return bool(self.stage._queue)

    @property
    def newest(self):
        return self._pts - 1

    def bring_all(self, count):
        """Make frames arrive as soon as the stage accepts them, without waiting."""
        self._turn.release(count)

    def finish(self, end=True):
        self._end = self._end or end
        self._turn.release()
