"""The queue of ranges on one device: prepared concurrently, upscaled one at a time.

The device therefore does not idle while a range's last frames are encoded and the next range's process opens the source.
"""

import threading
import time
from collections.abc import Callable

from upres.engine.core.text import number
from upres.service.domain.errors import NoRoomError

LOOK_SECONDS = 1.0  # between two checks that the waiting attempt still exists


class Line:
    """Order in which the ranges of a device reserve memory and then use the models, which one range uses at a time.

    A range that waits for the models already holds memory, and the range that uses the models waits for nothing here, so there is
    no deadlock. Ranges are identified by any object. All waits last at most `longest` seconds and then raise NoRoomError; they
    raise TimeoutError once `gone()` is true, i.e. the attempt has ended.
    """

    def __init__(self) -> None:
        self._holding: set[object] = set()
        self._upscales: object | None = None
        self._changed = threading.Condition()

    def is_first(self, who: object) -> bool:
        """Return whether no other range holds memory."""
        return self._holding <= {who}

    def become_first(self, who: object, gone: Callable[[], bool], longest: float) -> None:
        """Wait until no other range holds memory."""
        self._wait(lambda: self.is_first(who), gone, longest)

    def hold(self, who: object) -> None:
        """Record that a range holds memory."""
        with self._changed:
            self._holding.add(who)

    def enter(self, who: object, gone: Callable[[], bool], longest: float) -> None:
        """Wait until no other range uses the models, then acquire them."""

        def entered() -> bool:
            if self._upscales is None:
                self._upscales = who
            return self._upscales is who

        self._wait(entered, gone, longest)

    def exit(self, who: object) -> None:
        """Release the models, if this range uses them."""
        with self._changed:
            if self._upscales is who:
                self._upscales = None
            self._changed.notify_all()

    def leave(self, who: object) -> None:
        """Record that a range has released everything."""
        self.exit(who)
        with self._changed:
            self._holding.discard(who)
            self._changed.notify_all()

    def wake(self) -> None:
        """Make all waiting ranges check whether their attempts still exist."""
        with self._changed:
            self._changed.notify_all()

    def _wait(self, came: Callable[[], bool], gone: Callable[[], bool], longest: float) -> None:
        until = time.monotonic() + longest
        with self._changed:
            while not came():
                if gone():
                    raise TimeoutError("the attempt is gone")
                if (left := until - time.monotonic()) <= 0:
                    raise NoRoomError(f"the previous range has used the device for {number(longest)} s")
                self._changed.wait(min(left, LOOK_SECONDS))
