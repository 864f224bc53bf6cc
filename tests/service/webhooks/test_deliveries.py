"""Deliveries are ordered and durable, each event has one row, and a slow receiver does not delay others."""

import asyncio
import json
import signal
import subprocess
import sys

import databases
import pytest
import sqlalchemy as sa
from desk import Desk, Posted, local
from receiver import receiving

from upres.service.domain.errors import DiskFullError, StoreError
from upres.service.webhooks.deliveries import WAITS, Stage
from upres.service.webhooks.dispatcher import ConcurrencyLimits

YEAR = 365 * 86400.0


@pytest.fixture
def desk():
    desk = Desk()
    yield desk
    desk.store.close()


def test_a_later_event_waits_for_three_attempts_at_an_earlier_one_and_then_passes_it(desk):
    request_id = desk.done()
    post = Posted(500, 500, 500, 200)
    desk.run(post)
    assert post.events == [(request_id, "job.processing")] * 3 + [(request_id, "job.completed")]
    counts = desk.deliveries.counts()
    assert (counts[Stage.PASSED], counts[Stage.DELIVERED]) == (1, 1)


def test_both_events_have_ten_attempts_where_nobody_answers(desk):
    desk.done()
    post = Posted(500)
    desk.run(post)
    assert len(post.received) == 20 and desk.deliveries.counts()[Stage.FAILED] == 2


def test_a_clock_that_is_set_back_delays_no_delivery(desk):
    """A machine may start with a wrong clock, which is corrected once it has a network."""
    now = desk.clock.now
    desk.clock.now += YEAR
    request_id = desk.done()
    desk.deliveries.collect()
    first = desk.deliveries.claim(now)
    assert first is not None and (first.request_id, first.attempts) == (request_id, 1)
    desk.deliveries.mark_failed(first, "no response", now + YEAR)
    second = desk.deliveries.claim(now)
    assert second is not None and second.attempts == 2
    desk.deliveries.mark_failed(second, "no response", now)
    assert desk.deliveries.claim(now) is None
    assert desk.deliveries.claim(now + WAITS[1]) is not None


def test_a_dead_receiver_holds_no_other_up(desk):
    dead = [desk.done(url=f"https://dead.example/{n}") for n in range(30)]
    alive = [desk.done(url="https://alive.example/", owner="bob") for _ in range(3)]
    delivered, under_way, most = [], 0, 0

    async def scenario():
        all_delivered = asyncio.Event()

        async def post(url, headers, body):
            nonlocal under_way, most
            if "dead" in url:
                under_way += 1
                most = max(most, under_way)
                await all_delivered.wait()
                under_way -= 1
                return 500
            delivered.append(json.loads(body)["data"]["job_request_id"])
            if len(delivered) == 2 * len(alive):
                all_delivered.set()
            return 200

        webhooks = desk.webhooks(post, limits=ConcurrencyLimits(attempts=8, receiver=4, owner=6))
        running = asyncio.create_task(webhooks.run())
        async with asyncio.timeout(20):
            await all_delivered.wait()
        running.cancel()
        await asyncio.wait([running], timeout=20)

    asyncio.run(scenario())
    assert sorted(delivered) == sorted(alive * 2) and most <= 4 < len(dead)


@pytest.mark.parametrize(
    ("limits", "expected"), [(ConcurrencyLimits(8, 4, 3), 3), (ConcurrencyLimits(5, 9, 9), 5)], ids=["key", "all"]
)
def test_no_more_attempts_are_under_way_than_a_key_and_all_may_have(desk, limits, expected):
    for n in range(10):
        desk.done(url=f"https://{n}.example/")
    under_way, peak, settled, wait = 0, 0, asyncio.Event(), desk.clock.wait

    async def post(url, headers, body):
        nonlocal under_way, peak
        under_way += 1
        peak = max(peak, under_way)
        await settled.wait()
        under_way -= 1
        return 200

    async def full(event, seconds):
        async with asyncio.timeout(20):
            while not settled.is_set() and under_way < expected:
                await asyncio.sleep(0)
        settled.set()
        await wait(event, seconds)

    desk.clock.wait = full
    desk.run(post, limits=limits)
    assert peak == expected and desk.deliveries.counts()[Stage.DELIVERED] == 20


def test_an_attempt_that_goes_wrong_in_an_unknown_way_is_made_again(desk, caplog):
    desk.done()
    fails = [RuntimeError("odd")]

    async def post(url, headers, body):
        if fails:
            raise fails.pop()
        return 200

    desk.clock.goes_on_until_delivered(2)
    desk.run(post)
    assert "odd" in caplog.text


def test_an_event_becomes_one_delivery_however_often_it_is_read(desk):
    desk.done()
    assert (desk.deliveries.collect(), desk.deliveries.collect()) == (2, 0)


def test_a_process_that_dies_between_delivery_and_cursor_has_done_neither(tmp_path):
    desk = Desk(databases.url(tmp_path / "upres.db"))
    desk.done()

    def die(connection, cursor, statement, *rest):
        if statement.startswith("UPDATE meta"):
            raise KeyboardInterrupt

    engine = desk.store._engine
    sa.event.listen(engine, "before_cursor_execute", die)
    with pytest.raises(KeyboardInterrupt):
        desk.deliveries.collect()
    sa.event.remove(engine, "before_cursor_execute", die)
    assert sum(desk.deliveries.counts().values()) == 0
    assert desk.deliveries.collect() == 2
    desk.store.close()


def test_a_forgotten_job_is_not_told_of(desk):
    request_id = desk.done()
    desk.deliveries.collect()
    desk.store.delete(request_id)
    post = Posted(200)
    desk.run(post)
    assert post.received == [] and sum(desk.deliveries.counts().values()) == 0


def test_an_arrival_that_could_not_be_written_down_is_repeated_under_the_same_id(tmp_path):
    desk = Desk(databases.url(tmp_path / "upres.db"))
    desk.done()
    post = Posted(200)
    full = DiskFullError("the disk of the database is full")
    delivered, failures = desk.deliveries.mark_delivered, [full]

    def once_full(delivery):
        if failures:
            raise failures.pop()
        delivered(delivery)

    desk.deliveries.mark_delivered = once_full

    desk.clock.goes_on_until_delivered(2)
    desk.run(post)
    assert [event for _, event in post.events] == ["job.processing", "job.processing", "job.completed"]
    assert post.received[0][1]["X-DeAPI-Delivery-Id"] == post.received[1][1]["X-DeAPI-Delivery-Id"]
    desk.store.close()


DIES = """
import asyncio, sys
from upres.service.domain.errors import DiskFullError, StoreError
from upres.service.webhooks.deliveries import Deliveries
from upres.service.webhooks.egress import Allowed, Egress
from upres.service.storage.job_store import Store
from upres.service.webhooks.dispatcher import Webhooks

async def resolve(host, port):
    return ["127.0.0.1"]

egress = Egress(resolve, Allowed(http=True, hosts=frozenset({"hooks.example"})))
webhooks = Webhooks(Deliveries(Store(sys.argv[1])), egress.post, result_url=str)
asyncio.run(webhooks.run())
"""


def test_a_server_killed_in_the_middle_of_an_attempt_makes_it_again_after_its_restart(tmp_path):
    desk = Desk(databases.url(tmp_path / "upres.db"))
    with receiving() as receiver:
        receiver.hold.clear()
        request_id = desk.done(url=receiver.url())
        command = [sys.executable, "-c", DIES, databases.url(tmp_path / "upres.db")]
        with subprocess.Popen(command) as server:
            arrived = receiver.arrived.wait(60)
            server.send_signal(signal.SIGKILL)
        assert arrived
        receiver.hold.set()
        desk.run(local().post)
        bodies = [json.loads(body) for _, _, body in receiver.received]
        assert [body["event"] for body in bodies] == ["job.processing", "job.processing", "job.completed"]
        assert bodies[0] == bodies[1] and {body["data"]["job_request_id"] for body in bodies} == {request_id}
    desk.store.close()


def test_work_begins_at_once_when_woken_and_ends_when_cancelled(desk):
    async def scenario():
        arrived, waiting = asyncio.Event(), asyncio.Event()

        async def post(url, headers, body):
            arrived.set()
            return 200

        async def wait(event, seconds):
            waiting.set()
            await event.wait()

        desk.clock.wait = wait
        webhooks = desk.webhooks(post)
        running = asyncio.create_task(webhooks.run())
        async with asyncio.timeout(20):
            await waiting.wait()
            assert not arrived.is_set()
            desk.done()
            webhooks.wake()
            await arrived.wait()
        running.cancel()
        await asyncio.wait([running], timeout=20)
        assert running.cancelled()

    asyncio.run(scenario())


def test_a_database_that_is_busy_as_work_begins_delays_it_only(desk, monkeypatch):
    busy, recover = [StoreError("the database cannot be used (database is locked)")], desk.deliveries.recover

    def recovers(now):
        if busy:
            raise busy.pop()
        recover(now)

    monkeypatch.setattr(desk.deliveries, "recover", recovers)
    request_id, post = desk.done(), Posted(200)
    desk.deliveries.collect()
    desk.run(post)
    assert post.events == [(request_id, "job.processing"), (request_id, "job.completed")] and not busy
