"""Live jobs whose source the server pulls itself, from one of the streams that the operator has configured."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

from upres.engine.core.errors import UpresError
from upres.engine.decode.live.network import GONE_SECONDS
from upres.service.domain import job_logging
from upres.service.domain.errors import NotFoundError
from upres.service.domain.states import Failure, Reason, TransitionError
from upres.service.live.relay import Relay
from upres.service.storage.job_store import Job

from .change_events import retry_until_stored

Pull = Callable[[str, Callable[[bytes], Awaitable[object]], Callable[[int], None]], Awaitable[None]]
"""Pulls a stream by name until it ends: awaits the first function with its bytes, calls the second with its interruptions."""
Fail = Callable[[str, Failure], Awaitable[Job]]

logger = logging.getLogger(__name__)


class Pulls:
    """Running pulls, each until its stream ends or its job accepts no more. fail: fails a job whose stream is unavailable."""

    def __init__(self, pull: Pull, fail: Fail) -> None:
        self._pull = pull
        self._fail = fail
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, request_id: str, name: str, relay: Relay) -> None:
        """Start to pull a stream for a job."""
        relay.pause_seconds = GONE_SECONDS  # an interrupted stream may take longer to return than a sender may pause
        task = asyncio.create_task(self._run(request_id, name, relay))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Cancel all pulls."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self, request_id: str, name: str, relay: Relay) -> None:
        with job_logging.about(request_id):
            pulling = asyncio.create_task(self._pulled(name, relay))
            over = asyncio.create_task(relay.over.wait())
            try:
                await asyncio.wait((pulling, over), return_when=asyncio.FIRST_COMPLETED)
                if pulling.done():
                    await self._end(request_id, name, pulling.exception())
            finally:
                pulling.cancel()
                over.cancel()
                await asyncio.gather(pulling, over, return_exceptions=True)
                relay.end_source()

    async def _pulled(self, name: str, relay: Relay) -> None:
        async def take(data: bytes) -> None:
            with suppress(TransitionError):  # the job has just ended, which ends the pull as well
                await relay.write(relay.received, data)

        def interrupted(count: int) -> None:
            relay.interruptions = count
            logger.warning("the stream %s was interrupted and is back, %d times so far", name, count)

        await self._pull(name, take, interrupted)

    async def _end(self, request_id: str, name: str, error: BaseException | None) -> None:
        """Fail a job whose stream is unavailable; if the stream has ended, the job ends by itself."""
        if error is None:
            logger.info("the stream %s has ended", name)
            return
        if isinstance(error, UpresError):
            message = str(error)
        else:  # an internal error: its details are logged, not shown to the client
            logger.error("pulling %s failed: %r", name, error, exc_info=error)
            message = f"The stream {name} could not be pulled."
        with suppress(TransitionError, NotFoundError):  # the job has ended or was deleted
            await retry_until_stored(partial(self._fail, request_id, Failure(Reason.SOURCE_INCOMPLETE, message)))
