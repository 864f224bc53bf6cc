"""Tasks that live as long as their owner: one that fails is restarted, and one that keeps failing is reported to the owner.

A task that nobody awaits dies without a word; these do not.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

FIRST_DELAY = 1.0  # seconds before the first restart; each further one in a row waits twice as long
LONGEST_DELAY = 30.0
STABLE_SECONDS = 60.0  # a task that ran for longer starts with a clean record
MOST_FAILURES = 5  # in a row, after which the owner is asked to act

logger = logging.getLogger(__name__)

Work = Callable[[], Awaitable[None]]
Wait = Callable[[float], Awaitable[None]]


class WatchedTasks:
    """The long-lived tasks of one owner.

    on_failing: called once for each task that has failed MOST_FAILURES times in a row, with its name and last error. The
    server ends its process there, since a supervisor outside can do more. The task is restarted either way.
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
                raise RuntimeError("it returned, and must not")
            except Exception as error:  # whatever it is, the task must not die of it
                failures = 1 if self._clock() - started > STABLE_SECONDS else failures + 1
                logger.exception("the task %s failed (%d in a row); restarting it", name, failures)
                if failures == MOST_FAILURES:
                    self._on_failing(name, error)
            await self._wait(min(LONGEST_DELAY, FIRST_DELAY * 2 ** (failures - 1)))
