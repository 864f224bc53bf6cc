"""Transactions that were committed without a response, as the connection was cut at that moment."""

from contextlib import closing

import databases
import pytest
from losing_proxy import LosingProxy

from upres.service.auth.api_keys import Keys
from upres.service.domain import states
from upres.service.domain.errors import NotFoundError, StoreError
from upres.service.domain.request_id import new_id
from upres.service.domain.states import Status
from upres.service.storage import database
from upres.service.storage.job_store import Job, Store
from upres.service.storage.lease import WRITTEN, Lease
from upres.service.storage.schema import meta

pytestmark = pytest.mark.scale


@pytest.fixture
def url(postgres):
    return databases.fresh()


@pytest.fixture
def proxy(url):
    with LosingProxy(url) as proxy:
        yield proxy


@pytest.fixture
def store(proxy):
    """Open a server's store through the proxy."""
    with closing(Store(proxy.url)) as store:
        assert store.acquire(Lease("here", joins=True)) is None
        Keys(store).add("alice")
        yield store


def job(**values):
    return Job(new_id(), "alice", **{"spec": {"model": "m"}, "accepted": True, "source_complete": True, **values})


def test_what_was_committed_stands_though_nobody_said_so(store, proxy):
    new_job = job(accepted=False)

    def lost(step):
        proxy.lose_next()
        before = proxy.lost
        result = step()
        assert proxy.lost == before + 1
        return result

    assert lost(lambda: store.add(new_job))[1]
    assert lost(lambda: store.change(new_job.request_id, accepted=True)).accepted
    lost(lambda: store.shared_queue.put([new_job.request_id]))
    assert lost(lambda: store.shared_queue.take(lambda spec: True)).request_id == new_job.request_id
    assert store.get(new_job.request_id).server == store.server
    assert lost(lambda: store.change(new_job.request_id, states.started)).state.attempts == 1
    assert store.get(new_job.request_id).state.attempts == 1
    assert lost(lambda: store.change(new_job.request_id, states.finished)).state.status is Status.DONE
    lost(lambda: store.delete(new_job.request_id))
    with pytest.raises(NotFoundError):
        store.get(new_job.request_id)


def test_jobs_that_were_taken_over_are_known_though_nobody_said_so(store, proxy, url):
    with closing(Store(url)) as other:
        lease = Lease("there", joins=True)
        assert other.acquire(lease) is None
        orphan, _ = other.add(job(source_complete=False))
        other.release(lease)
    proxy.lose_next()
    assert store.ownership.take_over(()) == {orphan.request_id} and proxy.lost == 1


def test_what_was_not_committed_is_an_error(store, proxy, url):
    """The connection is cut before COMMIT."""
    new_job = job()

    def cut(step):
        if step == "add":
            databases.end_connections(url)

    store._checkpoint = cut
    with pytest.raises(StoreError, match="cannot be used"):
        store.add(new_job)
    with pytest.raises(NotFoundError):
        store.get(new_job.request_id)


def test_a_database_that_stays_away_is_waited_for_for_some_seconds(store, proxy, url, monkeypatch):
    """Afterwards it is unknown whether the transaction was committed."""
    monkeypatch.setattr(database, "DOUBT_SECONDS", 0.0)
    new_job = job()

    def away(step):
        if step == "add":
            proxy.reached = False
            proxy.lose_next()

    store._checkpoint = away
    with pytest.raises(StoreError, match="cannot be used"):
        store.add(new_job)
    with closing(Store(url)) as other:
        assert other.get(new_job.request_id).server == store.server


def test_what_servers_noted_of_their_transactions_goes_with_them(store, url):
    """Otherwise they would accumulate."""
    with closing(Store(url)) as closed_store, closing(Store(url)) as other:
        lease = Lease("there", joins=True)
        closed_store.acquire(lease)
        closed_store.add(job())
        closed_store.release(lease)
        store.add(job())
        assert other.acquire(Lease("there", joins=True)) is None
        other.add(job())
        with other.snapshot() as connection:
            notes = {row.name for row in connection.execute(meta.select()) if row.name.startswith(WRITTEN)}
    assert notes == {WRITTEN + str(server) for server in (store.server, other.server)}
