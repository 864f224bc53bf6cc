"""The queue of ranges on one device: prepared concurrently, upscaled one at a time.

The device therefore does not idle while a range's last frames are encoded and the next range's process opens the source.
"""

import threading
import time
from collections.abc import Callable

from upres.engine.core.text import number
from upres.service.domain.errors import NoRoomError

CHECK_SECONDS = 1.0  # between two checks that the waiting attempt still exists


class Line:
    """Order in which the ranges of a device reserve memory and then use the models, which one range uses at a time.

    A range that waits for the models already holds memory, and the range that uses the models waits for nothing here, so there is
    no deadlock. Ranges are identified by any object. All waits last at most `longest` seconds and then raise NoRoomError; they
    raise TimeoutError once `attempt_ended()` is true.
    """

    def __init__(self) -> None:
        self._holding: set[object] = set()
        self._upscales: object | None = None
        self._changed = threading.Condition()

    def is_first(self, range_: object) -> bool:
        """Return whether no other range holds memory."""
        return self._holding <= {range_}

    def become_first(self, range_: object, attempt_ended: Callable[[], bool], longest: float) -> None:
        """Wait until no other range holds memory."""
        self._wait(lambda: self.is_first(range_), attempt_ended, longest)

    def hold(self, range_: object) -> None:
        """Record that a range holds memory."""
        with self._changed:
            self._holding.add(range_)

    def enter(self, range_: object, attempt_ended: Callable[[], bool], longest: float) -> None:
        """Wait until no other range uses the models, then acquire them."""

        def entered() -> bool:
            if self._upscales is None:
                self._upscales = range_
            return self._upscales is range_

        self._wait(entered, attempt_ended, longest)

    def exit(self, range_: object) -> None:
        """Release the models, if this range uses them."""
        with self._changed:
            if self._upscales is range_:
                self._upscales = None
            self._changed.notify_all()

    def leave(self, range_: object) -> None:
        """Record that a range has released everything."""
        self.exit(range_)
        with self._changed:
            self._holding.discard(range_)
            self._changed.notify_all()

    def wake(self) -> None:
        """Make all waiting ranges check whether their attempts still exist."""
        with self._changed:
            self._changed.notify_all()

    def _wait(self, condition: Callable[[], bool], attempt_ended: Callable[[], bool], longest: float) -> None:
        until = time.monotonic() + longest
        with self._changed:
            while not condition():
                if attempt_ended():
                    raise TimeoutError("the attempt is gone")
                if (remaining := until - time.monotonic()) <= 0:
                    raise NoRoomError(f"the previous range has used the device for {number(longest)} s")
                self._changed.wait(min(remaining, CHECK_SECONDS))
