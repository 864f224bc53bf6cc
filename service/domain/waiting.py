"""Waits with a limit, and steps that a cancellation does not cut short."""

import asyncio
from collections.abc import Coroutine
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


async def to_the_end(steps: Coroutine[Any, Any, T]) -> T:
    """Do steps of which none may be left out; a cancellation that comes in between is raised when they are done."""
    doing = asyncio.create_task(steps)
    try:
        return await asyncio.shield(doing)
    except asyncio.CancelledError:
        await asyncio.wait([doing])
        raise
