"""Waits end with what they wait for, with their time, and with a cancellation whenever it comes."""

import asyncio

import pytest
from upres.service.waiting import wait_for


def test_a_wait_ends_with_the_event_or_the_time():
    async def scenario():
        event = asyncio.Event()
        await wait_for(event, 0.001)
        event.set()
        await wait_for(event, 60)

    asyncio.run(scenario())


@pytest.mark.parametrize("steps", range(6))
def test_a_cancellation_that_comes_with_the_event_is_not_lost(steps):
    async def scenario():
        event = asyncio.Event()

        async def forever():
            while True:
                await wait_for(event, 60)
                event.clear()

        task = asyncio.create_task(forever())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        event.set()
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task], timeout=10)
        assert task.cancelled()

    asyncio.run(scenario())
