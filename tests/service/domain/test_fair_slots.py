"""A limited number of concurrent holders, with owners in turn."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from upres.service.domain.errors import BusyError
from upres.service.domain.fair_slots import MOST_WAITING, MOST_WAITING_EACH, FairSlots


class Hall:
    """Slots, their holders, and the order in which these got them."""

    def __init__(self, count):
        self.slots = FairSlots(count, waiters="wait")
        self.entered = []
        self.tasks = {}
        self.leave = {}

    async def request(self, name):
        """Request a slot for the owner named by the first letter."""
        self.leave[name] = asyncio.Event()
        self.tasks[name] = asyncio.create_task(self._stay(name))
        await self.settle()

    async def _stay(self, name):
        async with self.slots.slot(name[0]):
            self.entered.append(name)
            await self.leave[name].wait()

    async def release(self, name):
        self.leave[name].set()
        await self.settle()

    async def settle(self):
        for _ in range(5):
            await asyncio.sleep(0)

    async def close(self):
        for task in self.tasks.values():
            task.cancel()
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)


def run(scenario, count=2):
    async def main():
        hall = Hall(count)
        await scenario(hall)
        await hall.close()

    asyncio.run(main())


def test_one_owner_never_holds_every_slot():
    async def scenario(hall):
        for name in ("a1", "a2", "a3", "b1"):
            await hall.request(name)
        assert hall.entered == ["a1", "b1"]

    run(scenario)


def test_owners_take_turns_however_many_one_has_waiting():
    async def scenario(hall):
        for name in ("a1", "b1", "a2", "a3", "b2", "c1"):
            await hall.request(name)
        assert hall.entered == ["a1", "b1"]
        await hall.release("b1")
        await hall.release("a1")
        assert hall.entered == ["a1", "b1", "b2", "a2"]
        await hall.release("b2")
        assert hall.entered[-1] == "c1"

    run(scenario)


def test_who_gives_up_waiting_holds_nothing_up():
    async def scenario(hall):
        for name in ("a1", "b1", "c1", "d1"):
            await hall.request(name)
        hall.tasks["c1"].cancel()
        await hall.settle()
        await hall.release("a1")
        await hall.release("b1")
        await hall.request("e1")
        assert hall.entered == ["a1", "b1", "d1", "e1"]

    run(scenario)


def test_a_slot_whose_owner_gives_up_as_it_comes_is_not_lost():
    async def scenario(hall):
        for name in ("a1", "b1", "c1"):
            await hall.request(name)
        hall.leave["a1"].set()
        await asyncio.sleep(0)
        hall.tasks["c1"].cancel()
        await hall.settle()
        await hall.request("d1")
        assert "d1" in hall.entered

    run(scenario)


def test_who_gives_up_as_a_slot_is_given_back_takes_no_turn_and_holds_nobody_up():
    async def scenario(hall):
        for name in ("a1", "b1", "c1", "c2", "d1"):
            await hall.request(name)
        hall.leave["a1"].set()
        hall.tasks["c1"].cancel()
        await hall.settle()
        assert hall.tasks["a1"].done() and hall.tasks["a1"].exception() is None
        assert hall.entered == ["a1", "b1", "c2"]
        await hall.release("b1")
        assert hall.entered[-1] == "d1"

    run(scenario)


def test_one_owner_waits_in_a_queue_of_its_own_and_all_in_one_that_is_bounded():
    async def scenario():
        slots = FairSlots(2, waiters="wait")
        async with AsyncExitStack() as stack:
            for owner in "ab":
                await stack.enter_async_context(slots.slot(owner))
            waiting = []

            async def wait(owner):
                async with slots.slot(owner):
                    pass

            async def refused(owner):
                with pytest.raises(BusyError, match="too many wait; try again in 5 s"):
                    await wait(owner)

            for number in range(MOST_WAITING):
                waiting.append(asyncio.create_task(wait(f"o{number // MOST_WAITING_EACH}")))
                if number == MOST_WAITING_EACH:
                    await asyncio.sleep(0)
                    await refused("o0")
            await asyncio.sleep(0)
            await refused("somebody else")
        await asyncio.gather(*waiting)

    asyncio.run(scenario())
