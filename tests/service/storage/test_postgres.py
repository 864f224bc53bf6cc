"""A real PostgreSQL server as the database: outages, several servers sharing it, and migration exactly once."""

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing

import databases
import psycopg
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from running_jobs import ended, published, result, serving, submit, until

from upres.service.domain import states
from upres.service.domain.errors import NotFoundError, StoreError, TakenOverError
from upres.service.domain.request_id import new_id
from upres.service.domain.states import Failure, MovedError, Reason, Status
from upres.service.storage.dialects import WRITERS, notices, open_engine
from upres.service.storage.job_store import Job, Store
from upres.service.storage.lease import Lease
from upres.service.storage.schema import leases, metadata

JOB = {"owner": "alice", "spec": {"model": "m"}, "accepted": True}


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(StoreError, match=r"pip install 'upres\[postgres\]'"):
        Store("postgresql://alice:secret@127.0.0.1/upres")


def test_a_database_of_another_kind_is_refused_with_those_that_can_be_used():
    with pytest.raises(
        StoreError, match=r"a mysql database, which is not supported; expected sqlite.*or postgresql://"
    ):
        Store("mysql://alice@127.0.0.1/upres")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://alice:secret@127.0.0.1:1/upres", r"alice:\*\*\*@127\.0\.0\.1:1/upres"),
        ("postgresql://127.0.0.1:1/upres?user=alice&password=secret", r"//127\.0\.0\.1:1/upres"),
    ],
)
def test_a_server_that_is_not_there_is_named_without_the_password(url, shown):
    with pytest.raises(StoreError, match=f"{shown}: the database cannot be used") as raised:
        Store(url)
    assert "secret" not in str(raised.value)


@pytest.fixture
def url(postgres):
    return databases.fresh()


@pytest.fixture
def store(url):
    store = Store(url)
    yield store
    store.close()


@pytest.mark.scale
def test_a_connection_that_was_lost_is_made_again(store, postgres):
    job, _ = store.add(Job(new_id(), **JOB))
    postgres.lose_connections()
    assert store.get(job.request_id) == job
    postgres.lose_connections()
    assert store.change(job.request_id, states.started).state.attempts == 1


@pytest.mark.scale
def test_a_transaction_whose_server_dies_changes_nothing_and_the_next_one_does(store, postgres):
    job, _ = store.add(Job(new_id(), **JOB))

    def die(state):
        postgres.kill()
        return states.started(state)

    try:
        with pytest.raises(StoreError, match="cannot be used"):
            store.change(job.request_id, die)
        with pytest.raises(StoreError, match="cannot be used"):
            store.get(job.request_id)
    finally:
        postgres.start()
    assert store.get(job.request_id) == job
    assert store.change(job.request_id, states.started).state.attempts == 1


@pytest.mark.scale
def test_who_waits_for_too_long_is_refused_and_may_try_again(store, url):
    hasty = Store(f"{url}&options=-c%20lock_timeout%3D100")
    with psycopg.connect(url) as other:
        other.execute("SELECT pg_advisory_xact_lock(%s)", (WRITERS,))
        with pytest.raises(StoreError, match="busy; try again"):
            hasty.add(Job(new_id(), **JOB))
        other.rollback()
    assert hasty.add(Job(new_id(), **JOB))[1]
    hasty.close()


@pytest.mark.scale
def test_starts_at_once_upgrade_once_to_the_tables_that_the_code_uses(url):
    with ThreadPoolExecutor(4) as threads:
        stores = list(threads.map(lambda _: Store(url), range(4)))
    assert len({store.result_prefix for store in stores}) == 1
    for store in stores:
        store.close()
    engine = open_engine(url)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()


@pytest.mark.scale
def test_who_writes_at_once_loses_nothing_and_a_reader_misses_no_event(url):
    stores = [Store(url) for _ in range(3)]
    seen = []

    def read(cursor=0):
        while len(seen) < 120:
            for event in stores[0].events(cursor, limit=7):
                cursor = event.cursor
                seen.append(cursor)

    def write(number):
        store = stores[number % 3]
        job, _ = store.add(Job(new_id(), **JOB))
        store.change(job.request_id, states.started)
        store.change(job.request_id, states.finished)

    with ThreadPoolExecutor(9) as threads:
        reading = threads.submit(read)
        list(threads.map(write, range(40)))
        reading.result(120)
    assert seen == [event.cursor for event in stores[0].events()]
    assert sorted(job.number for job in stores[0].page()) == list(range(1, 41))
    for store in stores:
        store.close()


@pytest.mark.scale
def test_a_server_whose_lease_another_took_changes_nothing(url):
    first, second = Store(url), Store(url)
    one, two = Lease("one"), Lease("two")
    assert first.acquire(one) is None
    job, _ = first.add(Job(new_id(), **JOB))
    assert second.acquire(two).server == "one"
    with first.transaction() as connection:
        connection.execute(leases.update().values(until=0.0))  # as if it had expired
    first.renew(one)  # no other server took it, so it is valid again
    assert second.acquire(two).server == "one"
    with first.transaction() as connection:
        connection.execute(leases.update().values(until=0.0))
    assert second.acquire(two) is None
    for late in (lambda: first.change(job.request_id, states.started), lambda: first.renew(one)):
        with pytest.raises(TakenOverError, match="two has taken over"):
            late()
    assert second.ownership.take_over([]) == {job.request_id}  # at once, as that server was ended
    assert second.change(job.request_id, states.started).state.attempts == 1
    second.release(two)
    with pytest.raises(TakenOverError, match="another server"):
        second.delete(job.request_id)
    assert second.get(job.request_id).state.attempts == 1
    first.close()
    second.close()


@pytest.fixture
def three(url):
    """Three servers that share a database, the first one being the leader, with their leases."""
    stores = [Store(url) for _ in range(3)]
    joining = [Lease(name, f"http://{name}:1", f"{name}:2", joins=True) for name in ("one", "two", "three")]
    for store, lease in zip(stores, joining, strict=True):
        assert store.acquire(lease) is None
    yield stores, joining
    for store in stores:
        store.close()


def let_run_out(store, lease):
    """Let the lease of a server expire."""
    with store.transaction() as connection:
        connection.execute(leases.update().where(leases.c.holder == lease.holder).values(until=0.0))


@pytest.mark.scale
def test_servers_work_beside_one_that_leads_and_know_where_each_job_is(three):
    stores, joining = three
    assert [lease.term for lease in joining] == [1, 0, 0] and [store.leads for store in stores] == [True, False, False]
    job, _ = stores[1].add(Job(new_id(), **JOB))
    assert stores[1].ownership.peer_owners([job.request_id]) == {}
    peer = stores[2].ownership.peer_owners([job.request_id, new_id()])[job.request_id]
    assert (peer.id, peer.http, peer.grpc) == (joining[1].holder, "http://two:1", "two:2")
    with pytest.raises(MovedError, match="another server owns this job"):
        stores[2].change(job.request_id, states.started)
    stores[1].change(job.request_id, states.cancelled)
    assert stores[2].ownership.peer_owners([job.request_id]) == {}  # any server may read it


@pytest.mark.scale
def test_jobs_of_a_server_that_is_gone_are_taken_over_once_and_what_it_still_writes_is_refused(three):
    stores, joining = three
    job, kept = (store.add(Job(new_id(), **JOB))[0] for store in (stores[1], stores[2]))
    assert not stores[0].ownership.has_orphans()
    late = [joining[1].holder]
    assert stores[0].ownership.take_over(late) == set()  # it has renewed its lease by then
    let_run_out(stores[0], joining[1])
    assert stores[0].servers().late == {joining[1].holder}
    assert stores[0].ownership.take_over(late) == {job.request_id}
    with pytest.raises(TakenOverError):
        stores[1].change(job.request_id, states.started)
    with pytest.raises(TakenOverError):
        stores[1].renew(joining[1])
    assert stores[0].change(job.request_id, states.started).server == joining[0].holder
    assert stores[2].change(kept.request_id, states.started).server == joining[2].holder
    stores[2].release(joining[2])
    assert stores[0].ownership.peer_owners([kept.request_id]) == {kept.request_id: None}
    assert stores[0].ownership.has_orphans() and stores[0].ownership.take_over([]) == {kept.request_id}


@pytest.mark.scale
def test_what_waits_with_its_whole_source_is_left_to_any_server_when_its_own_has_gone(three):
    """Resuming it could repeat what another server, or this one's queue, has taken and attempts by then."""
    stores, joining = three
    whole, coming, attempted = (
        stores[1].add(Job(new_id(), **JOB, source_complete=source_complete))[0].request_id
        for source_complete in (True, False, True)
    )
    stores[1].shared_queue.put([whole, coming])
    stores[1].change(attempted, states.started)
    stores[1].release(joining[1])
    assert stores[0].ownership.take_over([]) == {coming, attempted}
    assert stores[0].get(coming).queued is None and not stores[0].ownership.has_orphans()
    assert stores[2].shared_queue.take(lambda spec: True).request_id == whole
    assert stores[0].shared_queue.take(lambda spec: True) is None  # to be resumed first


@pytest.mark.scale
def test_another_server_leads_once_the_one_that_did_is_late_or_has_gone(three):
    stores, joining = three
    assert stores[1].acquire(joining[1]) is None and joining[1].term == 0  # one leads
    let_run_out(stores[1], joining[0])
    assert stores[1].acquire(joining[1], late=True) is None and joining[1].term == 2
    with pytest.raises(TakenOverError, match="two has taken over"):
        stores[0].renew(joining[0])
    stores[1].release(joining[1])
    assert stores[2].servers().leader is None
    assert stores[2].acquire(joining[2]) is None and joining[2].term == 3
    stores[2].renew(joining[2])


@pytest.mark.scale
def test_who_starts_joins_one_that_leads_and_is_late_as_when_the_database_was_away(three):
    stores, joining = three
    let_run_out(stores[0], joining[0])
    fresh, four = Store(stores[0]._engine.url.render_as_string(False)), Lease("four", joins=True)
    assert fresh.acquire(four) is None and four.term == 0 and fresh.servers().leader == joining[0].holder
    stores[0].renew(joining[0])  # it returns
    assert fresh.acquire(four, late=True) is None and four.term == 0
    let_run_out(stores[0], joining[0])
    assert fresh.acquire(four, late=True) is None and four.term == 2
    fresh.close()


@pytest.mark.scale
def test_a_server_of_an_older_version_works_alone(three):
    """It knows a single lease, whose holder owns every job."""
    stores, joining = three
    with psycopg.connect(str(stores[0]._engine.url.set(drivername="postgresql").render_as_string(False))) as older:
        older.execute("UPDATE leases SET holder = 'old', server = 'old' WHERE name = 'work'")
    for store, lease in zip(stores, joining, strict=True):
        with pytest.raises(TakenOverError, match="old has taken over"):
            store.renew(lease)
    fresh = Store(stores[0]._engine.url.render_as_string(False))
    assert fresh.acquire(Lease("four", joins=True)).server == "old"
    fresh.close()


@pytest.mark.scale
def test_every_server_hears_of_what_another_one_changes(three):
    stores, _ = three

    async def scenario():
        async with asyncio.timeout(100), aclosing(stores[2].notices()) as notifications:
            assert await anext(notifications) == ""
            job, _ = await asyncio.to_thread(stores[0].add, Job(new_id(), **JOB))
            assert await anext(notifications) == job.request_id

    asyncio.run(scenario())


def test_what_listens_is_opened_as_every_other_connection_with_its_limits_and_the_password_apart(monkeypatch):
    connections = []

    async def connect(conninfo="", **named):
        connections.append((conninfo, named))
        raise psycopg.OperationalError(f"cannot connect by {conninfo}")

    monkeypatch.setattr(psycopg.AsyncConnection, "connect", connect)
    store = open_engine("postgresql://alice:secret@127.0.0.1:1/upres?tcp_user_timeout=7")
    with pytest.raises(StoreError, match="notifications of changed jobs are unavailable") as raised:
        asyncio.run(anext(notices(store)))
    [(conninfo, named)] = connections
    assert conninfo == "" and "secret" not in str(raised.value)
    assert (named["host"], named["port"], named["user"], named["password"]) == ("127.0.0.1", 1, "alice", "secret")
    assert named["connect_timeout"] == 10 and named["keepalives_idle"] == 5 and named["tcp_user_timeout"] == "7"


@pytest.mark.scale
def test_a_character_that_the_database_does_not_take_breaks_nothing(store):
    job, _ = store.add(Job(new_id(), "alice", {"webhook_secret": "a\0b"}, accepted=True))
    assert store.get(job.request_id).spec == {"webhook_secret": "a\0b"}
    with pytest.raises(NotFoundError):
        store.get(f"{job.request_id}\0")
    failed = store.change(job.request_id, lambda state: states.failed(state, Failure(Reason.TIMEOUT, "a\0b")))
    assert failed.state.status is Status.ERROR
    assert store.get(job.request_id).state.failure.message == "a\ufffdb"


@pytest.mark.scale
def test_a_job_survives_that_its_database_is_away_for_a_while(postgres, fake_models, clip, tmp_path):
    async def scenario():
        async with serving(tmp_path) as jobs:
            undisturbed = await until(jobs, (await submit(jobs, clip("a.mp4", 3))).request_id, ended)
            job = await submit(jobs, clip("a.mp4", 3))
            await until(jobs, job.request_id, published(jobs))
            await asyncio.to_thread(postgres.kill)
            await asyncio.to_thread(postgres.start)
            job = await until(jobs, job.request_id, ended)
            assert job.state.status is Status.DONE, job.state
            files = [
                await result(jobs, each.request_id, tmp_path / f"{each.number}.mp4") for each in (job, undisturbed)
            ]
            assert files[0].read_bytes() == files[1].read_bytes()

    asyncio.run(scenario())


@pytest.mark.scale
def test_the_owner_of_tables_is_asked_for(store, url):
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute("DROP ROLE IF EXISTS stranger")
        admin.execute("CREATE ROLE stranger LOGIN")
    try:
        with pytest.raises(StoreError, match=r"lacks the permission .*make it the owner"):
            Store(url.replace("//postgres:", "//stranger:"))
    finally:
        with psycopg.connect(url, autocommit=True) as admin:
            admin.execute("DROP ROLE stranger")


def test_urls_of_other_drivers_mean_the_same():
    engines = [open_engine(f"{name}://h/d") for name in ("postgresql", "postgresql+psycopg", "postgresql+psycopg2")]
    assert {engine.url for engine in engines} == {sa.make_url("postgresql+psycopg://h/d")}
