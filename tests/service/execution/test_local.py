"""Worker processes as the server sees them."""

import asyncio
import json
from types import SimpleNamespace

import pytest

from upres.service.execution.local import LocalExecutor
from upres.service.execution.worker_process import WorkerProcess


@pytest.mark.parametrize("steps", range(5))
def test_it_stops_listening_when_told_to_even_as_a_line_comes(steps):
    async def scenario():
        process = SimpleNamespace(stdout=asyncio.StreamReader())
        listening = asyncio.create_task(WorkerProcess([], 1, 1)._listen(process, None))
        for _ in range(3):
            await asyncio.sleep(0)
        process.stdout.feed_data(b'{"report": "beat"}\n')
        for _ in range(steps):
            await asyncio.sleep(0)
        listening.cancel()
        with pytest.raises(asyncio.CancelledError):
            async with asyncio.timeout(5):
                await listening

    asyncio.run(scenario())


def test_a_worker_that_dies_in_the_middle_of_a_word_has_died_and_no_more():
    async def scenario():
        process = SimpleNamespace(stdout=asyncio.StreamReader())
        process.stdout.feed_data(b'{"report": "beat"}\n{"report": "rea')
        process.stdout.feed_eof()
        await WorkerProcess([], 1, 1)._listen(process, None)

    asyncio.run(scenario())


def test_what_cannot_run_is_what_the_worker_said_last():
    async def heard(*reports):
        process = SimpleNamespace(stdout=asyncio.StreamReader())
        for unavailable in reports:
            told = {"report": "ready", "unavailable": unavailable}
            process.stdout.feed_data(json.dumps(told).encode() + b"\n")
        process.stdout.feed_eof()
        executor = LocalExecutor(workers=2, slots=1, models="fake:load")
        await executor._workers[1]._listen(process, nobody)
        return executor.unavailable

    async def nobody(request_id, report):
        pass

    assert asyncio.run(heard()) is None
    assert asyncio.run(heard({"FlashVSR_Tiny": "its weights are not here"}, {})) == {}
