"""A real PostgreSQL server as the database: it is lost and comes back, others use it too, and it is brought up to date once."""

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor

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
from upres.service.domain.states import Failure, Reason, Status
from upres.service.storage.dialects import WRITERS, open_engine
from upres.service.storage.job_store import Job, Store
from upres.service.storage.lease import Lease
from upres.service.storage.schema import leases, metadata

JOB = {"owner": "alice", "spec": {"model": "m"}, "accepted": True}


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(StoreError, match=r"pip install 'upres\[postgres\]'"):
        Store("postgresql://alice:secret@127.0.0.1/upres")


def test_a_database_of_another_kind_is_refused_with_those_that_can_be_used():
    with pytest.raises(StoreError, match=r"a mysql database, which cannot be used; it is sqlite.*or postgresql://"):
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
    assert first.take(one) is None
    job, _ = first.add(Job(new_id(), **JOB))
    assert second.take(two).server == "one"
    with first.transaction() as connection:
        connection.execute(leases.update().values(until=0.0))  # as if it had not been renewed
    first.renew(one)  # nobody took it: it holds again
    assert second.take(two).server == "one"
    with first.transaction() as connection:
        connection.execute(leases.update().values(until=0.0))
    assert second.take(two) is None
    for late in (lambda: first.change(job.request_id, states.started), lambda: first.renew(one)):
        with pytest.raises(TakenOverError, match="two has taken over"):
            late()
    assert second.change(job.request_id, states.started).state.attempts == 1
    second.give_up(two)
    with pytest.raises(TakenOverError, match="another server"):
        second.delete(job.request_id)
    assert second.get(job.request_id).state.attempts == 1
    first.close()
    second.close()


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
        with pytest.raises(StoreError, match=r"may not do this .*make it the owner"):
            Store(url.replace("//postgres:", "//stranger:"))
    finally:
        with psycopg.connect(url, autocommit=True) as admin:
            admin.execute("DROP ROLE stranger")


def test_urls_of_other_drivers_mean_the_same():
    engines = [open_engine(f"{name}://h/d") for name in ("postgresql", "postgresql+psycopg", "postgresql+psycopg2")]
    assert {engine.url for engine in engines} == {sa.make_url("postgresql+psycopg://h/d")}
