"""Waiting for something to happen, but not for ever."""

import asyncio
from contextlib import suppress


async def wait_for(event: asyncio.Event, seconds: float) -> None:
    """Until the event is set, or the time is over.

    Not by asyncio.wait_for, here and elsewhere: before Python 3.12 it loses a cancellation that comes with the event.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
