"""The ranges under way on one device: made ready beside each other, upscaled one at a time.

So no device waits while the last frames of a range are encoded, and the next one's process starts and opens the source.
"""

import threading
import time
from collections.abc import Callable

from upres.engine.core.text import number
from upres.service.domain.errors import NoRoomError

LOOK_SECONDS = 1.0  # between two looks whether the one that waits is still there


class Line:
    """Who makes a range holds memory at first, then it has the models as well, which are for one at a time.

    Who waits for the models holds memory already, and who has them waits for nobody here: no two wait for each other. Who makes
    them are any objects. All that waits does so for `longest` seconds at most, and raises NoRoomError then; TimeoutError once
    `gone` says that nobody wants it any more.
    """

    def __init__(self) -> None:
        self._holding: set[object] = set()
        self._upscales: object | None = None
        self._changed = threading.Condition()

    def is_first(self, who: object) -> bool:
        """Tell whether no other holds memory."""
        return self._holding <= {who}

    def become_first(self, who: object, gone: Callable[[], bool], longest: float) -> None:
        """Wait until no other holds memory."""
        self._wait(lambda: self.is_first(who), gone, longest)

    def hold(self, who: object) -> None:
        """Note that one holds memory."""
        with self._changed:
            self._holding.add(who)

    def enter(self, who: object, gone: Callable[[], bool], longest: float) -> None:
        """Wait until no other has the models, and take them."""

        def entered() -> bool:
            if self._upscales is None:
                self._upscales = who
            return self._upscales is who

        self._wait(entered, gone, longest)

    def exit(self, who: object) -> None:
        """Leave the models to the next, if one has them."""
        with self._changed:
            if self._upscales is who:
                self._upscales = None
            self._changed.notify_all()

    def leave(self, who: object) -> None:
        """Note that one has given back all that it held."""
        self.exit(who)
        with self._changed:
            self._holding.discard(who)
            self._changed.notify_all()

    def look(self) -> None:
        """Have all that wait look whether they are still wanted."""
        with self._changed:
            self._changed.notify_all()

    def _wait(self, came: Callable[[], bool], gone: Callable[[], bool], longest: float) -> None:
        until = time.monotonic() + longest
        with self._changed:
            while not came():
                if gone():
                    raise TimeoutError("the attempt is gone")
                if (left := until - time.monotonic()) <= 0:
                    raise NoRoomError(f"the range before it has kept the device for {number(longest)} s")
                self._changed.wait(min(left, LOOK_SECONDS))
