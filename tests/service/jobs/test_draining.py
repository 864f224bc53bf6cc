"""A leader that drains."""

import asyncio
from contextlib import closing

import databases
import pytest
from running_jobs import beside

from upres.service.domain import states
from upres.service.domain.request_id import new_id
from upres.service.storage.job_store import Job, Store
from upres.service.storage.lease import Lease

pytestmark = pytest.mark.scale


def test_jobs_of_a_server_that_goes_meanwhile_wait_for_no_end_of_a_drain(postgres, tmp_path):
    """They are put into the shared queue, where other servers find them."""
    url = databases.fresh()

    async def scenario():
        async with beside(tmp_path, url, workers=0) as jobs:
            jobs.drain()
            with closing(Store(url)) as closed_store, closing(Store(url)) as other:
                lease = Lease("gone", joins=True)
                assert closed_store.acquire(lease) is None and other.acquire(Lease("other", joins=True)) is None
                job, _ = closed_store.add(Job(new_id(), "alice", {"model": "m"}, accepted=True, source_complete=True))
                closed_store.change(job.request_id, states.started)
                closed_store.release(lease)
                await jobs.take_over(frozenset())
                async with asyncio.timeout(60):
                    while other.get(job.request_id).queued is None:
                        await asyncio.sleep(0.05)
                assert other.shared_queue.take(lambda spec: True).request_id == job.request_id

    asyncio.run(scenario())
