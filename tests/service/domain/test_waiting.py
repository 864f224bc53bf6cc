"""Waits end with their event, with their timeout, and with a cancellation at any moment."""

import asyncio
from contextlib import aclosing

import pytest

from upres.service.domain.waiting import in_order, run_to_completion, wait_for


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

        task = asyncio.create_task(run_to_completion(steps()))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.sleep(0)
        assert not task.done()
        gate.set()
        await asyncio.wait([task], timeout=10)
        assert task.cancelled() and done == ["last"]

    asyncio.run(scenario())


def test_steps_are_done_some_at_once_and_give_what_they_do_in_order():
    async def scenario():
        under_way, most, created = 0, 0, 0

        async def step(number):
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            await asyncio.sleep(0.001 * (number % 3))
            under_way -= 1
            return number

        def steps():
            nonlocal created
            for number in range(20):
                created += 1
                yield step(number)

        assert [number async for number in in_order(steps(), 4)] == [*range(20)]
        assert most == 4
        created = 0
        async with aclosing(in_order(steps(), 4)) as first:
            assert await anext(first) == 0
        assert created == 4 and len(asyncio.all_tasks()) == 1  # the rest is neither created nor still running

    asyncio.run(scenario())


def test_a_step_that_fails_ends_those_beside_it():
    async def fails():
        raise ValueError("no")

    async def scenario():
        with pytest.raises(ValueError, match="no"):
            async for _ in in_order(iter([fails(), asyncio.sleep(1000)])):
                pass
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(scenario())
