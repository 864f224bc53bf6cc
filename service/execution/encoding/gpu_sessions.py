"""How many encoders of its GPU a worker may open, and which of its attempts have them."""

import logging
import threading
from collections import Counter
from collections.abc import Callable
from functools import partial

from upres.engine.core.text import number
from upres.engine.machine.video_engines import video_engines
from upres.service.domain.errors import NoRoomError
from upres.service.execution.memory_budget import OnWait, Wait

MOST_SESSIONS = 8  # of NVENC at once in a process: what drivers since 2024 open on GPUs that are no professional ones

logger = logging.getLogger(__name__)


class Sessions:
    """How many encoders a worker may open. Who waits for one, since a log goes on with it alone, has the next. most: in all.

    Each is taken in the name of an order.
    """

    def __init__(self, most: int = MOST_SESSIONS) -> None:
        self.most = most
        self._held: Counter[str] = Counter()
        self._waiting = 0
        self._changed = threading.Condition()

    @property
    def taken(self) -> int:
        """Count those that are in use."""
        return self._held.total()

    @property
    def free(self) -> int:
        """Count those that `claim` would take; none while others wait for one. From any thread."""
        with self._changed:
            return self._free

    @property
    def holders(self) -> list[str]:
        """Name the orders that have some. From any thread."""
        with self._changed:
            return [*self._held]

    def claim(self, most: int, name: str = "") -> int:
        """Take up to so many, and return how many; none while others wait for one."""
        with self._changed:
            count = max(0, min(most, self._free))
            self._change(name, count)
            return count

    def wait(
        self,
        gone: Callable[[], bool],
        longest: float,
        name: str = "",
        on_wait: OnWait = lambda *, waits, holding: None,
    ) -> None:
        """Take one as soon as one is free; NoRoomError after so many seconds, TimeoutError where whom it is for is gone."""
        wait = Wait(on_wait)
        with self._changed:
            self._waiting += 1
        try:
            if not wait.until(partial(self._took, name), lambda: self.holders, gone, longest):
                raise NoRoomError(
                    f"every encoder of the GPU has been taken for {number(longest)} s; submit the job again later"
                )
        finally:
            with self._changed:
                self._waiting -= 1
            wait.over()

    def _took(self, name: str, seconds: float) -> bool:
        """Take one as soon as one is free, within so many seconds; tell whether there was one."""
        with self._changed:
            free = self._changed.wait_for(lambda: self.taken < self.most, seconds)
            if free:
                self._change(name, 1)
            return free

    def release(self, count: int, name: str = "") -> None:
        """Give some back."""
        with self._changed:
            self._change(name, -count)
            self._changed.notify_all()

    @property
    def _free(self) -> int:
        return 0 if self._waiting else self.most - self.taken

    def _change(self, name: str, count: int) -> None:
        self._held[name] += count
        self._held += Counter()  # without orders that have none


def open_sessions() -> Sessions | None:
    """Try NVENC once, in a process of its own, and return its sessions; the log says which encodes."""
    if problem := video_engines()[0].problem:
        logger.warning("NVENC does not open here, so the CPU encodes: %s; `upres doctor` says what is missing", problem)
        return None
    logger.info("NVENC opens here: the GPU encodes 8-bit H.264 and HEVC")
    return Sessions()
