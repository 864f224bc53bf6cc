"""The job store, on a file and in memory."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import databases
import pytest

from upres.engine.core.errors import SettingsError
from upres.service.auth.api_keys import Keys
from upres.service.domain import states
from upres.service.domain.errors import ConflictError, DiskFullError, NotFoundError, StoreError
from upres.service.domain.request_id import new_id
from upres.service.domain.states import Failure, Reason, Status, TransitionError
from upres.service.jobs.change_events import Ledger
from upres.service.storage import database
from upres.service.storage.job_store import Job, Store
from upres.service.storage.schema import jobs

THREADS = 40  # more than asyncio's default executor has


@pytest.fixture(params=["file", "memory"])
def store(request, tmp_path):
    store = Store(databases.url(tmp_path / "jobs.db")) if request.param == "file" else Store.in_memory()
    yield store
    store.close()


def accepted(store, **values):
    return store.add(Job(new_id(), "alice", {"model": "m"}, accepted=True, **values))[0]


def test_a_transition_and_its_event_are_one(store):
    job = accepted(store)
    store.change(job.request_id, states.started)
    store.change(job.request_id, lambda s: states.progressed(s, 40))
    store.change(job.request_id, lambda s: states.progressed(s, 30))
    job = store.change(job.request_id, states.finished, totals={"frames": 3})
    assert (job.state.status, job.totals) == (Status.DONE, {"frames": 3})
    assert job.started_at and job.ended_at
    assert store.get(job.request_id) == job
    assert [event.kind for event in store.events()] == ["accepted", "processing", "progress", "done"]
    assert [event.kind for event in store.events(2, request_id=job.request_id)] == ["progress", "done"]
    with pytest.raises(TransitionError):
        store.change(job.request_id, states.cancelled)
    assert len(store.events()) == 4


def test_a_step_that_dies_inside_the_transaction_changes_nothing(store):
    job = accepted(store)

    def die(step):
        raise KeyboardInterrupt(step)

    store._checkpoint = die
    with pytest.raises(KeyboardInterrupt):
        store.change(job.request_id, states.started)
    store._checkpoint = lambda step: None
    assert store.get(job.request_id) == job
    assert [event.kind for event in store.events()] == ["accepted"]


def test_failures_come_back_whole(store):
    failure = Failure(Reason.TIMEOUT, "too slow")
    job = accepted(store)
    store.change(job.request_id, lambda s: states.failed(s, failure))
    assert store.get(job.request_id).state.failure == failure
    assert store.unfinished() == []
    assert [ended.request_id for ended in store.ended_before(float("inf"))] == [job.request_id]


def test_an_idempotency_key_answers_the_first_job_again(store):
    first = accepted(store, idempotency="k", fingerprint="a")
    again, new = store.add(Job(new_id(), "alice", {}, idempotency="k", fingerprint="a"))
    assert (again, new) == (first, False)
    assert store.add(Job(new_id(), "bob", {}, idempotency="k", fingerprint="b"))[1]
    with pytest.raises(ConflictError):
        store.add(Job(new_id(), "alice", {}, idempotency="k", fingerprint="b"))


def test_another_owners_job_is_not_found(store):
    job = accepted(store)
    with pytest.raises(NotFoundError):
        store.get(job.request_id, "bob")
    with pytest.raises(ConflictError):
        store.add(Job(job.request_id, "bob", {}))


def test_lists_read_on_from_the_last(store):
    job_list = [accepted(store) for _ in range(5)]
    first = store.page("alice", limit=3)
    rest = store.page("alice", below=first[-1].number)
    assert [job.number for job in first + rest] == [job.number for job in reversed(job_list)]
    assert store.page("bob") == [] and store.page(status=Status.DONE) == []


def test_a_cursor_is_never_used_twice(store):
    job = accepted(store)
    cursor = store.events()[-1].cursor
    store.delete(job.request_id)
    accepted(store)
    assert store.events()[-1].cursor > cursor


def test_a_store_survives_and_knows_its_version(tmp_path):
    url = databases.url(tmp_path / "jobs.db")
    first = Store(url)
    job = accepted(first)
    secret = first.meta("secret", lambda: "one")
    first.close()
    second = Store(url)
    assert second.get(job.request_id) == job
    assert second.meta("secret", lambda: "two") == secret
    second.close()
    with pytest.raises(StoreError, match="unable to open"):
        Store(f"sqlite:///{tmp_path}/nowhere/jobs.db")


@pytest.mark.parametrize("name", ["", " ", "a b/c", "grün", "a\n"])
def test_a_key_whose_name_a_pusher_channel_cannot_contain_is_refused(store, name):
    with pytest.raises(SettingsError, match="_ - = @ , "):
        Keys(store).add(name)
    assert Keys(store).add("a_b-c=d@e,f.g;1")


def test_keys_are_known_by_their_hash_only(store):
    keys = Keys(store)
    secret = keys.add("alice")
    assert keys.owner(secret) == "alice" and keys.owner(secret + "x") is None
    assert secret not in str(keys.all())
    with pytest.raises(ConflictError):
        keys.add("alice")
    keys.put("alice", "chosen")
    assert keys.owner("chosen") == "alice" and keys.owner(secret) is None
    keys.revoke("alice")
    assert keys.owner("chosen") is None
    with pytest.raises(NotFoundError):
        keys.revoke("alice")


def test_reads_wait_for_no_writer(tmp_path):
    store = Store(databases.url(tmp_path / "jobs.db"))
    job = accepted(store)
    with store.transaction() as connection, ThreadPoolExecutor(1) as reader:
        connection.execute(jobs.update().values(owner="bob"))
        assert reader.submit(store.get, job.request_id, "alice").result(5) == job
        assert reader.submit(store.page).result(5) == [job]
        assert [event.kind for event in reader.submit(store.events).result(5)] == ["accepted"]
    assert store.get(job.request_id).owner == "bob"
    store.close()


def test_reads_go_on_while_many_changes_wait_for_a_lock_of_another_process(tmp_path):
    """A backup may lock the database for a minute, while many clients submit jobs."""
    store = Store(databases.url(tmp_path / "jobs.db"))
    ledger, job, locked, released = Ledger(store), accepted(store), threading.Event(), threading.Event()

    def lock():
        with closing(Store(databases.url(tmp_path / "jobs.db"))) as other, other.transaction():
            locked.set()
            assert released.wait(200)

    async def scenario():
        changes = [asyncio.create_task(ledger.change(job.request_id, accepted=True)) for _ in range(THREADS)]
        await asyncio.sleep(0)  # each has its thread, or waits for one
        assert (await ledger.get(job.request_id)).accepted
        assert not any(change.done() for change in changes)
        released.set()
        await asyncio.gather(*changes, return_exceptions=True)

    with ThreadPoolExecutor(1) as threads:
        other = threads.submit(lock)
        assert locked.wait(60)
        try:
            asyncio.run(scenario())
        finally:
            released.set()
        other.result()
    store.close()


def test_a_change_whose_turn_does_not_come_in_time_is_rejected(store, monkeypatch):
    job, entered, released = accepted(store), threading.Barrier(database.WRITERS + 1), threading.Event()

    def takes_long():
        entered.wait(60)
        assert released.wait(60)

    async def scenario():
        earlier = [asyncio.create_task(store.write(takes_long)) for _ in range(database.WRITERS)]
        await asyncio.to_thread(entered.wait, 60)
        monkeypatch.setattr(database, "TURN_SECONDS", 0.0)
        second = asyncio.create_task(store.write(store.change, job.request_id, states.started))
        await asyncio.sleep(0)
        released.set()
        await asyncio.gather(*earlier)
        with pytest.raises(StoreError, match="busy"):
            await second

    asyncio.run(scenario())
    assert store.get(job.request_id).state.status is Status.PENDING


def test_a_full_disk_is_named_and_nothing_is_lost(tmp_path):
    store = Store(f"sqlite:///{tmp_path}/jobs.db")
    job = accepted(store)
    with pytest.raises(DiskFullError, match="nothing is lost"), store.transaction() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages + 2}")  # as if the disk had no more
        connection.execute(jobs.update().values(owner="b" * 100_000))
    assert store.get(job.request_id) == job
    store.close()
