"""Waits end with what they wait for, with their time, and with a cancellation whenever it comes."""

import asyncio

import pytest

from upres.service.domain.waiting import to_the_end, wait_for


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


def test_what_must_not_be_left_half_done_is_done_before_a_cancellation_is_raised():
    async def scenario():
        gate, done = asyncio.Event(), []

        async def steps():
            await gate.wait()
            done.append("last")

        task = asyncio.create_task(to_the_end(steps()))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.sleep(0)
        assert not task.done()
        gate.set()
        await asyncio.wait([task], timeout=10)
        assert task.cancelled() and done == ["last"]

    asyncio.run(scenario())
