"""Asyncio helpers: waits with a timeout, coroutines protected from cancellation, and concurrent coroutines in order."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Coroutine, Iterable
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")


async def wait_for(event: asyncio.Event, seconds: float) -> None:
    """Wait until the event is set, or the timeout expires.

    This does not use asyncio.wait_for, which before Python 3.12 loses a cancellation that occurs together with the event.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


async def run_to_completion(steps: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end even if the caller is cancelled; the cancellation is raised afterwards."""
    task = asyncio.create_task(steps)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


async def in_order(steps: Iterable[Coroutine[Any, Any, T]], at_once: int = 8) -> AsyncGenerator[T]:
    """Run coroutines concurrently, and yield their results in order. at_once: how many run at the same time.

    steps: may be an iterator that creates each coroutine when it is started. A caller that does not read to the end must close the
    generator, which cancels the running coroutines.
    """
    running: deque[asyncio.Task[T]] = deque()
    try:
        for step in steps:
            running.append(asyncio.create_task(step))
            if len(running) == at_once:
                yield await running.popleft()
        while running:
            yield await running.popleft()
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
