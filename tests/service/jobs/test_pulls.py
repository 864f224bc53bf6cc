"""Streams that the server pulls: how they end is recorded even if the database fails for a while."""

import asyncio

from upres.engine.core.errors import SourceError
from upres.service.domain.errors import StoreError
from upres.service.jobs.pulls import Pulls


class Relay:
    """Receives the pulled bytes."""

    received = 0

    def __init__(self, said):
        self.over, self._said = asyncio.Event(), said

    def end_source(self):
        self._said.append("ended")


def test_a_stream_that_fails_while_the_database_is_busy_fails_its_job_before_its_source_ends(monkeypatch):
    async def scenario():
        said = []

        async def pull(name, take, interrupted):
            raise SourceError("the camera cannot be opened")

        async def fail(request_id, failure):
            said.append("busy" if len(said) < 2 else "failed")
            if said[-1] == "busy":
                raise StoreError("the database is locked")

        pulls = Pulls(pull, fail)
        pulls.start("job", "camera", Relay(said))
        async with asyncio.timeout(60):
            while "ended" not in said:
                await asyncio.sleep(0)
        await pulls.stop()
        return said

    monkeypatch.setattr("upres.service.jobs.change_events.RETRY_SECONDS", 0)
    assert asyncio.run(scenario()) == ["busy", "busy", "failed", "ended"]
