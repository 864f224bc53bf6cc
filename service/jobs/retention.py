"""Ended jobs and their results, kept for a while, then forgotten."""

import asyncio
import logging
import time

from upres.service.domain.errors import NotFoundError

from .service import Jobs

CHECK_SECONDS = 60.0

logger = logging.getLogger(__name__)


async def expire(jobs: Jobs, keep_seconds: float) -> int:
    """Forget every job that ended longer ago than this; how many there were."""
    old = await asyncio.to_thread(jobs.store.ended_before, time.time() - keep_seconds)
    for job in old:
        try:
            await jobs.forget(job.request_id)
        except NotFoundError:
            continue  # deleted by its owner meanwhile
    return len(old)


async def keep_expiring(jobs: Jobs, keep_seconds: float) -> None:
    """Do so for as long as this task lives."""
    while True:
        try:
            if count := await expire(jobs, keep_seconds):
                logger.info("%d jobs were kept long enough and are forgotten", count)
        except Exception:  # whatever it is, the next time may go well
            logger.exception("retention")
        await asyncio.sleep(CHECK_SECONDS)
