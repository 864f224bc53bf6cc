"""The encoder sessions of its GPU that a worker may open, and the attempts that hold them."""

import logging
import threading
from collections import Counter
from collections.abc import Callable
from functools import partial

from upres.engine.core.text import number
from upres.engine.machine.video_engines import video_engines
from upres.service.domain.errors import NoRoomError
from upres.service.execution.memory_budget import OnWait, Wait

MAX_SESSIONS = 8  # concurrent NVENC sessions: the limit of drivers since 2024 on consumer GPUs

logger = logging.getLogger(__name__)


class Sessions:
    """A pool of encoder sessions. An attempt that must wait for one, to resume a log, precedes all others. most: size of the pool.

    Each session is held in the name of an order.
    """

    def __init__(self, most: int = MAX_SESSIONS) -> None:
        self.most = most
        self._by_order: Counter[str] = Counter()  # sessions in use by the name of the order that holds them
        self._waiting = 0
        self._changed = threading.Condition()

    @property
    def in_use(self) -> int:
        """The number of sessions in use."""
        return self._by_order.total()

    @property
    def free(self) -> int:
        """The number of sessions that `claim` can return; 0 while another attempt waits. From any thread."""
        with self._changed:
            return self._free

    @property
    def holders(self) -> list[str]:
        """The names of the orders that hold sessions. From any thread."""
        with self._changed:
            return [*self._by_order]

    def claim(self, most: int, name: str = "") -> int:
        """Acquire up to `most` sessions, and return how many; none while another attempt waits."""
        with self._changed:
            count = max(0, min(most, self._free))
            self._change(name, count)
            return count

    def wait(
        self,
        attempt_ended: Callable[[], bool],
        longest: float,
        name: str = "",
        on_wait: OnWait = lambda *, waits, holding: None,
    ) -> None:
        """Acquire a session, waiting at most `longest` seconds; NoRoomError after that, TimeoutError once the attempt has ended."""
        wait = Wait(on_wait)
        with self._changed:
            self._waiting += 1
        try:
            if not wait.until(partial(self._try_acquire, name), lambda: self.holders, attempt_ended, longest):
                raise NoRoomError(
                    f"all encoders of the GPU have been in use for {number(longest)} s; submit the job again later"
                )
        finally:
            with self._changed:
                self._waiting -= 1
            wait.over()

    def _try_acquire(self, name: str, seconds: float) -> bool:
        """Acquire a session as soon as one is free, within `seconds`; return whether there was one."""
        with self._changed:
            free = self._changed.wait_for(lambda: self.in_use < self.most, seconds)
            if free:
                self._change(name, 1)
            return free

    def release(self, count: int, name: str = "") -> None:
        """Release sessions."""
        with self._changed:
            self._change(name, -count)
            self._changed.notify_all()

    @property
    def _free(self) -> int:
        return 0 if self._waiting else self.most - self.in_use

    def _change(self, name: str, count: int) -> None:
        self._by_order[name] += count
        self._by_order += Counter()  # drops orders that hold none


def open_sessions() -> Sessions | None:
    """Try NVENC once, in a separate process, and return its sessions; log whether the GPU or the CPU encodes."""
    if problem := video_engines()[0].problem:
        logger.warning("NVENC is not available, so the CPU encodes: %s; `upres doctor` shows what is missing", problem)
        return None
    logger.info("NVENC is available: the GPU encodes 8-bit H.264 and HEVC")
    return Sessions()
