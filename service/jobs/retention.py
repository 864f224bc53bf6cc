"""Retention: ended jobs and their results are deleted after a configured time.

A clock that jumps forward must not delete jobs early: a job is deleted only if it was old enough at two checks, the first of
which was some time ago by a clock that cannot jump.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable

from upres.service.domain.errors import StoreError

from .service import Jobs

CHECK_SECONDS = 60.0
CONFIRM_SECONDS = 3600.0  # between the two checks, unless jobs are kept for a shorter time
JUMP_SECONDS = 300.0  # difference between the two clocks since the last check from which on a jump is logged

logger = logging.getLogger(__name__)


class Cutoff:
    """Time before which ended jobs are deleted. clock: Unix seconds. steady: monotonic seconds."""

    def __init__(
        self,
        keep_seconds: float,
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._keep_seconds = keep_seconds
        self._confirm_seconds = min(CONFIRM_SECONDS, keep_seconds)
        self._clock = clock
        self._steady = steady
        self._checks: deque[tuple[float, float]] = deque()  # times by the steady clock and the wall clock

    def check(self) -> float:
        """Record a check; return the Unix time before which jobs must have ended to be deleted now, -inf if none may be."""
        steady, now = self._steady(), self._clock()
        if self._checks:
            jump = (now - self._checks[-1][1]) - (steady - self._checks[-1][0])
            if abs(jump) > JUMP_SECONDS:
                logger.warning(
                    "the clock has jumped by %.0f s; nothing is deleted for %g s", jump, self._confirm_seconds
                )
        self._checks.append((steady, now))
        while len(self._checks) > 1 and self._checks[1][0] <= steady - self._confirm_seconds:
            self._checks.popleft()
        confirmed = self._checks[0][0] <= steady - self._confirm_seconds
        earliest = min(now for _, now in self._checks)
        return earliest - self._keep_seconds if confirmed else float("-inf")


async def expire(jobs: Jobs, cutoff: float) -> int:
    """Delete every job that ended before this Unix time; return their number."""
    count = 0
    while batch := await asyncio.to_thread(jobs.store.ended_before, cutoff):
        for job in batch:
            await jobs.forget(job)
        count += len(batch)
    return count


async def keep_expiring(jobs: Jobs, keep_seconds: float) -> None:
    """Periodically delete jobs that ended more than `keep_seconds` ago; runs until cancelled."""
    cutoff = Cutoff(keep_seconds)
    while True:
        try:
            if count := await expire(jobs, cutoff.check()):
                logger.info("deleted %d jobs whose retention time is over", count)
        except StoreError:  # a full disk or a locked database may be temporary
            logger.exception("old jobs cannot be deleted; retrying later")
        await asyncio.sleep(CHECK_SECONDS)
