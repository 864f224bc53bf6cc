"""The queue that several servers of one PostgreSQL database share."""

import asyncio
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace

import databases
import pytest

from upres.service.auth.api_keys import Keys
from upres.service.domain import states
from upres.service.domain.errors import BusyError
from upres.service.domain.request_id import new_id
from upres.service.jobs import fair_queue
from upres.service.jobs.fair_queue import FairQueue
from upres.service.storage.job_store import Job, Store
from upres.service.storage.lease import Lease
from upres.service.storage.schema import leases
from upres.service.storage.shared_queue import MAX_EXAMINED

pytestmark = pytest.mark.scale


def any_(spec):
    return True


@pytest.fixture
def servers(postgres):
    """Three servers that share a database, and API keys of two tenants."""
    url = databases.fresh()
    stores = [Store(url) for _ in range(3)]
    for store in stores:
        assert store.acquire(Lease("here", joins=True)) is None
    for name in ("greedy", "small"):
        Keys(stores[0]).add(name)
    yield stores
    for store in stores:
        store.close()


def waiting(store, owner, **job):
    """Queue a job at a server; return its id."""
    new_job = Job(new_id(), owner, **{"spec": {"model": "m"}, "accepted": True, "source_complete": True, **job})
    store.add(new_job)
    store.shared_queue.put([new_job.request_id])
    return new_job.request_id


def started(store):
    """Take a job, and start an attempt."""
    dequeued = store.shared_queue.take(any_)
    return None if dequeued is None else store.change(dequeued.request_id, states.started)


def test_keys_take_turns_over_all_servers(servers):
    """By the attempts at all servers, not only at the one that takes a job."""
    one, two, three = servers
    for _ in range(4):
        waiting(one, "greedy")
    for _ in range(2):
        waiting(two, "small")
    jobs = [started(store) for store in (one, two, three, three, one, two)]
    assert [job.owner for job in jobs] == ["greedy", "small", "greedy", "small", "greedy", "greedy"]
    assert [job.server for job in jobs] == [store.server for store in (one, two, three, three, one, two)]
    assert started(one) is None


def test_one_that_waits_is_next_though_the_others_jobs_are_older_and_nothing_runs(servers):
    one, two, _ = servers
    for _ in range(3):
        waiting(one, "greedy")
    one.change(started(one).request_id, states.finished)
    waiting(two, "small")
    assert started(one).owner == "small"


def test_no_job_is_taken_twice_and_none_is_left(servers):
    jobs = {waiting(servers[number % 3], "greedy") for number in range(40)}

    def take(store):
        return iter(lambda: store.shared_queue.take(any_), None)

    with ThreadPoolExecutor(6) as threads:
        dequeued = [
            each.request_id for part in threads.map(lambda n: list(take(servers[n % 3])), range(6)) for each in part
        ]
    assert sorted(dequeued) == sorted(jobs)


def test_what_is_taken_is_one_that_was_attempted_before_else_the_oldest_that_can_run(servers):
    one, two, _ = servers
    other, old, again = (waiting(one, "greedy", spec={"model": model}) for model in ("x", "m", "m"))
    one.change(again, states.started)
    one.change(again, states.requeued)
    assert two.shared_queue.take(any_).request_id == again
    assert two.shared_queue.take(lambda spec: spec["model"] == "none") is None
    assert two.shared_queue.take(any_).request_id == other
    assert two.shared_queue.take(any_).request_id == old


def test_a_job_that_a_server_cannot_run_keeps_none_of_its_keys_others_from_it_and_ends_no_attempt_there(
    servers, monkeypatch
):
    monkeypatch.setattr(fair_queue, "PICKUP_SECONDS", 0.0)

    def can_run(spec):
        return spec.get("model") == "m"

    one, two, _ = servers
    line = fair_queue.DispatchQueue(FairQueue(9), one.shared_queue, can_run)
    for _ in range(3):
        under_way(one, "greedy")
    first = waiting(one, "small", spec={"model": "x"})
    assert claim(line, greedy=3) == (False, None)
    second = waiting(one, "small")
    assert claim(line, greedy=3) == (True, "greedy")
    assert one.shared_queue.take(can_run).request_id == second
    assert one.shared_queue.take(can_run) is None
    assert two.shared_queue.take(any_).request_id == first


def test_a_bounded_number_of_a_keys_jobs_is_looked_at(servers):
    looked = []
    for _ in range(MAX_EXAMINED + 2):
        waiting(servers[0], "small")
    assert servers[0].shared_queue.take(looked.append) is None and len(looked) == MAX_EXAMINED


def test_a_source_that_still_arrives_keeps_its_job_at_its_server(servers):
    one, two, _ = servers
    request_id = waiting(one, "small", source_complete=False)
    assert (
        two.shared_queue.take(any_) is None
        and two.shared_queue.owners() == []
        and one.shared_queue.owners() == ["small"]
    )
    assert one.shared_queue.count().jobs == 1 and two.shared_queue.count().jobs == 0
    assert one.shared_queue.take(any_).request_id == request_id
    assert one.shared_queue.count() == replace(one.shared_queue.count(), jobs=0, keys=0, oldest=0.0)


def test_a_job_that_any_server_may_take_at_once_claims_no_slot_of_one_that_is_full(postgres):
    now = [100.0]
    with closing(Store(databases.fresh(), clock=lambda: now[0])) as store:
        store.acquire(Lease("here", joins=True))
        waiting(store, "small")
        assert store.shared_queue.owners() == ["small"] and store.shared_queue.claim(any_, 1.0) is None
        now[0] = 101.0
        assert store.shared_queue.claim(any_, 1.0).owner == "small"


@pytest.fixture
def lines(servers, monkeypatch):
    """The dispatch queue of each server, without the delay for other servers to take a job first."""
    monkeypatch.setattr(fair_queue, "PICKUP_SECONDS", 0.0)
    return [fair_queue.DispatchQueue(FairQueue(9), store.shared_queue, any_) for store in servers]


def under_way(store, owner, **job):
    """Create a job with a running attempt at a server."""
    new_job, _ = store.add(Job(new_id(), owner, **{"spec": {}, "accepted": True, "source_complete": True, **job}))
    return store.change(new_job.request_id, states.started)


def claim(line, **running):
    return asyncio.run(line.claim(Counter(running)))


def test_a_key_with_as_many_attempts_at_another_server_takes_none_from_one_that_has_them_here(servers, lines):
    """It also waits at the second server, where an ended attempt would be taken again at once."""
    one, two, _ = servers
    for owner, store in (("small", one), ("small", one), ("greedy", two), ("greedy", two)):
        under_way(store, owner)
    waiting(one, "small")
    assert claim(lines[1], greedy=2) == (True, None)
    under_way(two, "greedy")
    assert claim(lines[1], greedy=3) == (True, None)
    under_way(two, "greedy")
    assert claim(lines[1], greedy=4) == (True, "greedy")


def test_one_full_server_alone_gives_a_slot_to_a_job_that_waits(servers, lines):
    for store, attempts in zip(servers, (2, 3, 2), strict=True):
        for _ in range(attempts):
            under_way(store, "greedy")
    waiting(servers[0], "small")
    assert [claim(line, greedy=2) for line in lines] == [(True, None), (True, "greedy"), (True, None)]
    assert started(servers[1]).owner == "small"
    assert [claim(line, greedy=2) for line in lines] == [(False, None)] * 3


def test_jobs_that_gave_their_slots_back_take_no_turn(servers, lines):
    """A stream that waits for its source, and a locked job."""
    one, two, _ = servers
    for yielded in (under_way(one, "small", source_complete=False), under_way(one, "small")):
        one.change(yielded.request_id, states.requeued)
    for owner in ("greedy", "greedy"):
        under_way(two, owner)
    waiting(one, "greedy")
    waiting(one, "small")
    assert claim(lines[1], greedy=2) == (True, "greedy")
    assert started(two).owner == "small"


def test_attempts_of_a_server_that_is_late_take_no_turn(servers, lines):
    one, two, three = servers
    for _ in range(2):
        under_way(three, "small")
    for owner in ("greedy", "greedy"):
        under_way(two, owner)
    waiting(one, "greedy")
    waiting(one, "small")
    assert claim(lines[1], greedy=2) == (True, None)
    with one.transaction() as connection:
        connection.execute(leases.update().where(leases.c.name == three.server).values(until=0.0))
    assert claim(lines[1], greedy=2) == (True, "greedy")
    assert started(two).owner == "small"


def test_a_job_that_ends_while_it_waits_is_not_taken(servers):
    one, two, _ = servers
    one.change(waiting(one, "small"), states.cancelled)
    assert two.shared_queue.take(any_) is None
    request_id = waiting(one, "small")
    assert two.shared_queue.take(any_).request_id == request_id
    with pytest.raises(states.MovedError):
        one.change(request_id, states.cancelled)
    one.shared_queue.put([request_id])  # the server has lost the job
    assert one.shared_queue.take(any_) is None


def test_live_jobs_take_no_turn_and_what_the_database_does_not_take_holds_up_nobody(servers):
    one, two, _ = servers
    live = Job(new_id(), "small", {"live": True, "webhook_secret": "a\0b"}, accepted=True)
    one.add(live)
    one.change(live.request_id, states.started)
    waiting(one, "greedy", spec={"model": "m", "webhook_secret": "a\0b"})
    assert started(two).owner == "greedy"
    waiting(one, "greedy")
    waiting(one, "small")
    assert started(two).owner == "small"


def test_the_places_of_the_queue_are_those_of_all_servers(servers):
    one, two, _ = servers
    queue = FairQueue(4)
    for store in (one, two):
        waiting(store, "greedy")
    with pytest.raises(BusyError, match="2 jobs of this key"):
        two.add(Job(new_id(), "greedy", {}), lambda places: queue.check("greedy", places))
    two.add(Job(new_id(), "small", {}), lambda places: queue.check("small", places))
    two.add(Job(new_id(), "tiny", {}), lambda places: queue.check("tiny", places))
    assert [store.shared_queue.count_places() for store in servers] == [4, 4, 4]
    with pytest.raises(BusyError, match="4 jobs are waiting"):
        one.add(Job(new_id(), "last", {}), lambda places: queue.check("last", places))
    assert started(one) is not None
    one.add(Job(new_id(), "last", {}), lambda places: queue.check("last", places))
