"""Pausing all attempts, as when another server may have taken over."""

import asyncio

from running_jobs import serving, submit

LONGEST_SECONDS = 100


class OneHangs:
    """Executor of attempts that do not end; the worker of the first one does not respond."""

    ready, unavailable, live_room, shortages, room = True, {}, 0, (), 2

    def __init__(self):
        self.ran, self.cancelled, self.paused = [], [], asyncio.Event()

    async def start(self, on_report):
        pass

    async def run(self, order):
        self.ran.append(order.request_id)

    async def cancel(self, request_id):
        if request_id == self.ran[0]:
            await asyncio.Event().wait()
        self.cancelled.append(request_id)

    async def pause(self):
        self.paused.set()

    async def stop(self):
        pass


def test_an_attempt_that_cannot_be_cancelled_holds_up_no_other(tmp_path, clip):
    async def scenario():
        executor = OneHangs()
        async with serving(tmp_path, executor=executor) as jobs, asyncio.timeout(LONGEST_SECONDS):
            for name in "abc":
                await submit(jobs, clip(f"{name}.mp4", 1))
            while len(executor.ran) < 3:
                await asyncio.sleep(0.01)
            pausing = asyncio.create_task(jobs.scheduler.pause())
            await executor.paused.wait()
            assert executor.cancelled == executor.ran[1:] and not pausing.done()
            assert all(attempt.yielding for attempt in jobs.scheduler.attempts.values())
            pausing.cancel()
            await asyncio.wait([pausing])

    asyncio.run(scenario())
