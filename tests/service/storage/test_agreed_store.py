"""All servers of a database keep its jobs in one store, or none does: one that differs does not start."""

import asyncio

import databases
import pytest
from sqlalchemy import update

from upres.service.domain import states
from upres.service.domain.errors import OtherStoreError, TakenOverError
from upres.service.domain.states import Failure, Reason
from upres.service.server.standby import Standby
from upres.service.storage.job_store import Job, Store
from upres.service.storage.lease import Lease
from upres.service.storage.schema import leases

URL = "s3://bucket/prefix"


@pytest.fixture
def single(tmp_path):
    """The store of a server that shares the database with none."""
    store = Store(databases.url(tmp_path / "jobs.db"))
    yield store
    store.close()


@pytest.fixture
def stores(postgres):
    url = databases.fresh()
    opened = [Store(url) for _ in range(2)]
    yield opened
    for store in opened:
        store.close()


def test_no_server_begins_with_a_store_while_jobs_wait_whose_sources_are_in_none(single):
    job, _ = single.add(Job("a", "alice", {}, accepted=True, source_complete=True))
    with pytest.raises(OtherStoreError, match=r"1 job .* not ended.* start without UPRES_STORE"):
        single.keep_jobs_in(URL)
    single.keep_jobs_in(None)  # which is what is left to do
    single.change(job.request_id, lambda state: states.failed(state, Failure(Reason.PROCESSING_FAILED, "")))
    single.keep_jobs_in(URL)
    with pytest.raises(OtherStoreError, match=f"kept in {URL}"):
        single.keep_jobs_in(None)


def test_jobs_whose_sources_still_arrive_hold_up_no_server_later(single):
    single.keep_jobs_in(URL)
    single.add(Job("a", "alice", {}))
    single.keep_jobs_in(f"{URL}/")


@pytest.mark.scale
def test_no_server_begins_with_a_store_while_one_works_without(stores):
    without = Lease("one", joins=True)
    assert stores[0].acquire(without) is None
    with pytest.raises(OtherStoreError, match=r"one works .* without a store: stop every server"):
        stores[1].acquire(Lease("two", joins=True, kept=URL))
    stores[0].renew(without)
    stores[0].release(without)
    assert stores[1].acquire(Lease("two", joins=True, kept=URL)) is None


@pytest.mark.scale
def test_a_server_without_a_store_that_was_late_then_comes_back_to_nothing(stores):
    without = Lease("one", joins=True)
    assert stores[0].acquire(without) is None
    with stores[0].transaction() as connection:
        connection.execute(update(leases).values(until=0.0))  # as if it had not been renewed
    assert stores[1].acquire(Lease("two", joins=True, kept=URL)) is None
    with pytest.raises(TakenOverError):
        stores[0].renew(without)


@pytest.mark.scale
@pytest.mark.parametrize("kept", [None, "s3://bucket/elsewhere"])
def test_a_server_that_looked_before_another_one_began_with_a_store_does_not_get_its_turn(stores, tmp_path, kept):
    async def scenario():
        late = Standby(stores[0], tmp_path, "late", joins=True)
        late._lease.kept = kept
        assert stores[1].acquire(Lease("two", joins=True, kept=f"{URL}/")) is None
        with pytest.raises(OtherStoreError, match=f"are kept in {URL}: set UPRES_STORE to that"):
            await late.wait(None)
        assert stores[1].acquire(Lease("three", joins=True, kept=URL)) is None
        await late.stop()

    asyncio.run(scenario())
