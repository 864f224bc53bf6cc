"""Supervised background tasks: a task that fails is restarted, and one that keeps failing is reported to its owner.

The error of a plain asyncio task that is never awaited would go unnoticed.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

FIRST_DELAY = 1.0  # seconds before the first restart; doubled for each consecutive one
LONGEST_DELAY = 30.0
STABLE_SECONDS = 60.0  # after running for longer, a task's consecutive failures are counted from zero
MOST_FAILURES = 5  # consecutive failures after which the owner is notified

logger = logging.getLogger(__name__)

Work = Callable[[], Awaitable[None]]
Wait = Callable[[float], Awaitable[None]]


class WatchedTasks:
    """The long-lived tasks of one owner.

    on_failing: called with the name and the last error of a task when it has failed MOST_FAILURES times in a row. The server
    then exits, for an external supervisor to restart it. The task is restarted in any case.
    """

    def __init__(
        self,
        on_failing: Callable[[str, Exception], None] = lambda name, error: None,
        *,
        wait: Wait = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._on_failing = on_failing
        self._wait = wait
        self._clock = clock
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, name: str, work: Work, *, endless: bool = True) -> None:
        """Run `work()` as a task. endless: it must never return, so that a return counts as a failure."""
        task = asyncio.create_task(self._keep(name, work, endless=endless), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Cancel every task and wait until all have ended."""
        tasks = [*self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep(self, name: str, work: Work, *, endless: bool) -> None:
        failures = 0
        while True:
            started = self._clock()
            try:
                await work()
                if not endless:
                    return
                raise RuntimeError("an endless task returned")
            except Exception as error:  # any error: the task is restarted
                failures = 1 if self._clock() - started > STABLE_SECONDS else failures + 1
                logger.exception("the task %s failed (%d in a row); restarting it", name, failures)
                if failures == MOST_FAILURES:
                    self._on_failing(name, error)
            await self._wait(min(LONGEST_DELAY, FIRST_DELAY * 2 ** (failures - 1)))
