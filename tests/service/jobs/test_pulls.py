"""Streams that the server pulls: how they end is recorded even if the database fails for a while."""

import asyncio

from upres.engine.core.errors import SourceError
from upres.service.domain.errors import StoreError
from upres.service.jobs.pulls import Pulls


class Relay:
    """Receives the pulled bytes."""

    received = 0

    def __init__(self, steps):
        self.over, self._steps = asyncio.Event(), steps

    def end_source(self):
        self._steps.append("ended")


def test_a_stream_that_fails_while_the_database_is_busy_fails_its_job_before_its_source_ends(monkeypatch):
    async def scenario():
        steps = []

        async def pull(name, take, interrupted):
            raise SourceError("the camera cannot be opened")

        async def fail(request_id, failure):
            steps.append("busy" if len(steps) < 2 else "failed")
            if steps[-1] == "busy":
                raise StoreError("the database is locked")

        pulls = Pulls(pull, fail)
        pulls.start("job", "camera", Relay(steps))
        async with asyncio.timeout(60):
            while "ended" not in steps:
                await asyncio.sleep(0)
        await pulls.stop()
        return steps

    monkeypatch.setattr("upres.service.jobs.change_events.RETRY_SECONDS", 0)
    assert asyncio.run(scenario()) == ["busy", "busy", "failed", "ended"]
