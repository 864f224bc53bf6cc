"""Waits with a limit, steps that a cancellation does not cut short, and steps beside each other."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Coroutine, Iterable
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")


async def wait_for(event: asyncio.Event, seconds: float) -> None:
    """Wait until the event is set, or the time is over.

    Not by asyncio.wait_for, here and elsewhere: before Python 3.12 it loses a cancellation that comes with the event.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


async def run_to_completion(steps: Coroutine[Any, Any, T]) -> T:
    """Do steps of which none may be left out; a cancellation that comes in between is raised when they are done."""
    doing = asyncio.create_task(steps)
    try:
        return await asyncio.shield(doing)
    except asyncio.CancelledError:
        await asyncio.wait([doing])
        raise


async def in_order(steps: Iterable[Coroutine[Any, Any, T]], at_once: int = 8) -> AsyncGenerator[T]:
    """Do steps, some at once, and yield what they give in their order. steps: an iterator makes each when its turn comes.

    Who does not read to the end closes it: what is under way is then cancelled.
    """
    doing: deque[asyncio.Task[T]] = deque()
    try:
        for step in steps:
            doing.append(asyncio.create_task(step))
            if len(doing) == at_once:
                yield await doing.popleft()
        while doing:
            yield await doing.popleft()
    finally:
        for task in doing:
            task.cancel()
        await asyncio.gather(*doing, return_exceptions=True)
