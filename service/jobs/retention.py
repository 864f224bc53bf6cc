"""Ended jobs and their results, kept for a while, then deleted.

A clock that jumps forward deletes nothing at once: a job is deleted when it was old enough at two looks, the first of which
lies some time back by a clock that cannot jump.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable

from upres.service.domain.errors import StoreError

from .service import Jobs

CHECK_SECONDS = 60.0
CONFIRM_SECONDS = 3600.0  # between the two looks, where jobs are kept for longer than that
JUMP_SECONDS = 300.0  # by which the wall clock may leave the other one between two looks before it is reported

logger = logging.getLogger(__name__)


class Cutoff:
    """The time before which ended jobs are deleted. clock: Unix seconds. steady: seconds that never jump."""

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
        self._looks: deque[tuple[float, float]] = deque()  # of both clocks

    def look(self) -> float:
        """Give the Unix time before which jobs had ended long enough ago, now and at a look that lies back far enough."""
        steady, now = self._steady(), self._clock()
        if self._looks:
            jump = (now - self._looks[-1][1]) - (steady - self._looks[-1][0])
            if abs(jump) > JUMP_SECONDS:
                logger.warning(
                    "the clock has jumped by %.0f s; nothing is deleted for %g s", jump, self._confirm_seconds
                )
        self._looks.append((steady, now))
        while len(self._looks) > 1 and self._looks[1][0] <= steady - self._confirm_seconds:
            self._looks.popleft()
        confirmed = self._looks[0][0] <= steady - self._confirm_seconds
        earliest = min(now for _, now in self._looks)
        return earliest - self._keep_seconds if confirmed else float("-inf")


async def expire(jobs: Jobs, cutoff: float) -> int:
    """Delete every job that ended before this Unix time; give how many there were."""
    count = 0
    while batch := await asyncio.to_thread(jobs.store.ended_before, cutoff):
        for job in batch:
            await jobs.forget(job)
        count += len(batch)
    return count


async def keep_expiring(jobs: Jobs, keep_seconds: float) -> None:
    """Do so for as long as this task lives."""
    cutoff = Cutoff(keep_seconds)
    while True:
        try:
            if count := await expire(jobs, cutoff.look()):
                logger.info("%d jobs were kept for long enough and are deleted", count)
        except StoreError:  # a full disk, a locked database: it may pass
            logger.exception("old jobs cannot be deleted; trying again later")
        await asyncio.sleep(CHECK_SECONDS)
