"""Supervised tasks never die unnoticed."""

import asyncio

import pytest

from upres.service.domain.watched_tasks import LONGEST_DELAY, MOST_FAILURES, STABLE_SECONDS, WatchedTasks


class Scripted:
    """Work that runs for some seconds each time and then ends as scripted; waits indefinitely after the script."""

    def __init__(self, *ends, seconds=0.0):
        self.ends = list(ends)
        self.seconds = seconds
        self.now = 0.0
        self.delays = []
        self.failing = []
        self.over = asyncio.Event()

    async def __call__(self):
        self.now += self.seconds
        if not self.ends:
            self.over.set()
            await asyncio.Event().wait()
        if (end := self.ends.pop(0)) is not None:
            raise end

    async def wait(self, seconds):
        self.delays.append(seconds)

    async def run(self, *, endless=True):
        tasks = WatchedTasks(
            lambda name, error: self.failing.append((name, str(error))), wait=self.wait, clock=lambda: self.now
        )
        tasks.start("pump", self, endless=endless)
        async with asyncio.timeout(10):
            await self.over.wait()
            await tasks.stop()


def run(*ends, **options):
    async def scenario():
        work = Scripted(*ends, **options)
        await work.run()
        return work

    return asyncio.run(scenario())


@pytest.mark.parametrize("end", [OSError("no more processes"), KeyError("report"), None])
def test_a_task_that_fails_or_returns_is_restarted(end, caplog):
    assert run(end).delays == [1.0]
    assert "pump" in caplog.text


def test_restarts_in_a_row_come_ever_later_but_come():
    assert run(*[OSError("x")] * 8).delays == [1, 2, 4, 8, 16, LONGEST_DELAY, LONGEST_DELAY, LONGEST_DELAY]


def test_the_owner_is_asked_to_act_once_when_it_keeps_failing():
    assert run(*[OSError("x")] * (MOST_FAILURES - 1)).failing == []
    assert run(*[OSError("x")] * (MOST_FAILURES + 3)).failing == [("pump", "x")]


def test_failures_that_lie_far_apart_are_no_row():
    work = run(*[OSError("x")] * 8, seconds=STABLE_SECONDS + 1)
    assert work.failing == [] and set(work.delays) == {1.0}


def test_a_task_that_may_end_is_not_restarted():
    async def scenario():
        async def work():
            pass

        async def restarted(seconds):
            raise AssertionError("it is restarted")

        tasks = WatchedTasks(wait=restarted)
        tasks.start("announce", work, endless=False)
        (task,) = tasks._tasks
        await task

    asyncio.run(scenario())


def test_a_task_that_has_ended_is_not_kept():
    async def scenario():
        tasks = WatchedTasks()
        for number in range(3):
            tasks.start(f"{number}", asyncio.Event().wait if number == 2 else nothing, endless=False)
        await asyncio.sleep(0.01)
        assert len(tasks._tasks) == 1
        await tasks.stop()
        assert not tasks._tasks

    async def nothing():
        pass

    asyncio.run(scenario())
