"""Senders that have left, and readers that take nothing: they do not hold a job indefinitely."""

import asyncio
import logging

from upres.engine.core.text import counted
from upres.service.domain import job_logging
from upres.service.domain.errors import NotFoundError, StoreError
from upres.service.domain.states import Failure, Reason, TransitionError

from .scheduler import Runner
from .uploads import Intake

CHECK_SECONDS = 1.0

logger = logging.getLogger(__name__)


async def keep_watch(intake: Intake, runner: Runner, seconds: float) -> None:
    """End the jobs whose sender or reader has been idle for longer than this, for as long as this task lives."""
    while True:
        await asyncio.sleep(CHECK_SECONDS)
        for request_id in [*intake.idle(), *runner.live.idle(seconds)]:
            message = f"No byte of the source came for {counted(seconds, 'second')}."
            await _give_up(request_id, Failure(Reason.SOURCE_INCOMPLETE, message), intake, runner)
        for request_id in runner.live.stuck(seconds):
            message = f"The client took nothing of a live log that waits for it for {counted(seconds, 'second')}."
            await _give_up(request_id, Failure(Reason.TIMEOUT, message), intake, runner)


async def _give_up(request_id: str, failure: Failure, intake: Intake, runner: Runner) -> None:
    with job_logging.about(request_id):
        try:
            await runner.fail(request_id, failure)
        except StoreError:
            logger.exception("it cannot be given up yet; trying again")
        except (TransitionError, NotFoundError) as error:
            intake.close(request_id)
            runner.live.close(request_id, cut=True)
            logger.info("it is not waited for any more: %s", error)
