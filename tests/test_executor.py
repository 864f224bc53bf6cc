"""Worker processes as the server sees them."""

import asyncio
from types import SimpleNamespace

import pytest
from upres.service.executor import _WorkerProcess


@pytest.mark.parametrize("steps", range(5))
def test_it_stops_listening_when_told_to_even_as_a_line_comes(steps):
    async def scenario():
        process = SimpleNamespace(stdout=asyncio.StreamReader())
        listening = asyncio.create_task(_WorkerProcess("fake:load", 1, 1)._listen(process, None, {}))
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
        await _WorkerProcess("fake:load", 1, 1)._listen(process, None, {})

    asyncio.run(scenario())
