"""Idle timeouts: a sender that stops sending, or a reader that stops reading, ends its job."""

import asyncio
import logging

from upres.engine.core.text import counted
from upres.service.domain import job_logging
from upres.service.domain.errors import NotFoundError, StoreError
from upres.service.domain.states import Failure, Reason, TransitionError

from .scheduler import Scheduler
from .uploads import Intake

CHECK_SECONDS = 1.0

logger = logging.getLogger(__name__)


async def watch_idle_clients(intake: Intake, scheduler: Scheduler, seconds: float) -> None:
    """Periodically fail the jobs whose sender or reader has been idle for longer than `seconds`; runs until cancelled."""
    while True:
        await asyncio.sleep(CHECK_SECONDS)
        for request_id in [*intake.idle(), *scheduler.live.idle(seconds)]:
            message = f"No data of the source was received for {counted(seconds, 'second')}."
            await _give_up(request_id, Failure(Reason.SOURCE_INCOMPLETE, message), intake, scheduler)
        for request_id in scheduler.live.stuck(seconds):
            message = (
                f"The client read nothing of the live result, which waits for it, for {counted(seconds, 'second')}."
            )
            await _give_up(request_id, Failure(Reason.TIMEOUT, message), intake, scheduler)


async def _give_up(request_id: str, failure: Failure, intake: Intake, scheduler: Scheduler) -> None:
    with job_logging.about(request_id):
        try:
            await scheduler.fail(request_id, failure)
        except StoreError:
            logger.exception("the idle job cannot be failed yet; retrying")
        except (TransitionError, NotFoundError) as error:
            intake.close(request_id)
            scheduler.live.close(request_id, cut=True)
            logger.info("idle, but already ended or deleted: %s", error)
