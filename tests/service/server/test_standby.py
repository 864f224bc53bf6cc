"""A server's lease on a real PostgreSQL server: slow parts of the server do not lose it, and doubt about it pauses the server."""

import asyncio
import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import databases
import pytest
import sqlalchemy as sa

from upres.service.domain import watched_tasks
from upres.service.domain.errors import StoreError
from upres.service.server import standby as module
from upres.service.server.settings import Settings
from upres.service.server.standby import Standby
from upres.service.storage import lease
from upres.service.storage.schema import leases

pytestmark = pytest.mark.scale

LONGEST_SECONDS = 100


@pytest.fixture
def settings(postgres, tmp_path):
    return Settings(state=tmp_path, database=databases.fresh())


@asynccontextmanager
async def working(settings):
    """A server whose turn it is, and the events of its lease."""
    standby, happened = Standby.open(settings, lambda step: None), asyncio.Queue()

    async def pause():
        happened.put_nowait("paused")

    async def resume():
        happened.put_nowait("resumed")

    async with asyncio.timeout(LONGEST_SECONDS):
        await standby.wait(lambda line: None)
        standby.start(pause, resume, happened.put_nowait)
        yield standby, happened
        await standby.stop()
    standby.store.close()


def until(settings):
    """The time until which the lease is valid."""
    engine = sa.create_engine(settings.database.replace("postgresql:", "postgresql+psycopg:"))
    with engine.connect() as connection:
        expiry = connection.scalar(sa.select(leases.c.until))
    engine.dispose()
    return expiry


def test_calls_that_are_slow_do_not_hold_up_the_renewal(settings, monkeypatch):
    """Regardless of how many tasks wait in the shared threads, and for the turn to write."""
    monkeypatch.setattr(module, "RENEW_SECONDS", 0.05)

    async def scenario():
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2))
        over, writing = threading.Event(), threading.Event()
        async with working(settings) as (standby, happened):

            def slow():
                with standby.store.transaction():
                    writing.set()
                    over.wait(LONGEST_SECONDS)

            calls = [asyncio.create_task(asyncio.to_thread(slow)) for _ in range(8)]
            try:
                while not writing.is_set():
                    await asyncio.sleep(0.01)
                for _ in range(3):
                    before = until(settings)
                    while until(settings) <= before:
                        await asyncio.sleep(0.05)
            finally:
                over.set()
            await asyncio.gather(*calls)
            assert happened.empty()

    asyncio.run(scenario())


def test_work_is_paused_while_the_lease_is_in_doubt_and_goes_on_when_nobody_has_taken_it(
    settings, postgres, monkeypatch
):
    monkeypatch.setattr(module, "RENEW_SECONDS", 0.05)
    monkeypatch.setattr(module, "SECONDS", 0.1)

    async def scenario():
        async with working(settings) as (_, happened):
            await asyncio.to_thread(postgres.kill)
            try:
                assert await happened.get() == "paused"
            finally:
                await asyncio.to_thread(postgres.start)
            assert await happened.get() == "resumed"

    asyncio.run(scenario())


class Away:
    """A database that is unavailable for some renewals, for as long as a lease lasts."""

    def __init__(self, times):
        self.times = times

    def meta(self, name, create):
        return create()

    def renew(self, lease):
        if self.times > 0:
            self.times -= 1
            raise StoreError("away")

    def release(self, lease):
        pass


def test_a_pause_that_fails_is_followed_by_what_ends_it(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "RENEW_SECONDS", 0.0)
    monkeypatch.setattr(module, "SECONDS", -1.0)  # each failure is a long one
    monkeypatch.setattr(watched_tasks, "FIRST_DELAY", 0.0)

    async def scenario():
        resumed = asyncio.Event()

        async def pause():
            raise RuntimeError("a device cannot be left")

        async def resume():
            resumed.set()

        standby = Standby(Away(2), tmp_path, "here")
        standby.start(pause, resume, lambda why: None)
        async with asyncio.timeout(LONGEST_SECONDS):
            await resumed.wait()
            await standby.stop()

    asyncio.run(scenario())


def test_a_pause_that_is_cut_is_taken_again_until_it_has_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "RENEW_SECONDS", 0.0)
    monkeypatch.setattr(module, "SECONDS", -1.0)
    monkeypatch.setattr(module, "PAUSE_SECONDS", 0.01)

    async def scenario():
        happened, resumed, away = [], asyncio.Event(), Away(math.inf)

        async def pause():
            happened.append("pause")
            if happened.count("pause") < 3:  # as if a worker did not read
                await asyncio.Event().wait()
            happened.append("paused")
            away.times = 0

        async def resume():
            resumed.set()

        standby = Standby(away, tmp_path, "here")
        standby.start(pause, resume, lambda why: None)
        async with asyncio.timeout(LONGEST_SECONDS):
            await resumed.wait()
            await standby.stop()
        assert happened == ["pause", "pause", "pause", "paused"]

    asyncio.run(scenario())


def test_the_lease_is_renewed_while_a_pause_takes_its_time(tmp_path, monkeypatch):
    """As if a worker did not read: ending attempts must not lose the lease that is available again by then."""
    monkeypatch.setattr(module, "RENEW_SECONDS", 0.0)
    monkeypatch.setattr(module, "SECONDS", -1.0)

    async def scenario():
        happened, store, over = [], Starting(1), asyncio.Event()

        async def pause():
            for _ in range(3):
                assert await asyncio.to_thread(store.renewed.acquire, timeout=LONGEST_SECONDS / 10)
            happened.append("paused")

        async def resume():
            happened.append("resumed")
            over.set()

        standby = Standby(store, tmp_path, "here")
        standby.start(pause, resume, lambda why: None)
        async with asyncio.timeout(LONGEST_SECONDS):
            await over.wait()
            await standby.stop()
        assert happened == ["paused", "resumed"]

    asyncio.run(scenario())


class Starting(Away):
    """A database that is available. renewed: number of renewals of the lease."""

    def __init__(self, away):
        super().__init__(away)
        self.renewed = threading.Semaphore(0)

    def acquire(self, lease):
        return None

    def renew(self, lease):
        super().renew(lease)
        self.renewed.release()


def until_held_no_more():
    for thread in threading.enumerate():
        if thread.name == "start":
            thread.join(LONGEST_SECONDS)
            assert not thread.is_alive()


def test_a_start_that_takes_long_keeps_its_turn_as_long_as_it_gets_on(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "RENEW_SECONDS", 0.0)
    monkeypatch.setattr(module, "START_SECONDS", -1.0)  # a single check without any progress is too many
    standby, looks = Standby(Starting(0), tmp_path, "here"), iter([*range(100), 99, 100])
    standby._renew_while_starting(lambda: next(looks))
    assert [*looks] == [100]
    for _ in range(99):
        assert standby.store.renewed.acquire(blocking=False)


def test_what_a_thread_does_is_seen_by_others_and_what_those_do_is_not_its_own():
    clock, worked, seen = module._cpu_clock(), 0.05, []
    before = clock()
    while clock() < before + worked:
        pass

    def work():
        seen.append(clock())
        own = time.thread_time()
        while time.thread_time() < own + worked:
            pass
        seen.append(clock())

    other = threading.Thread(target=work)
    other.start()
    other.join(LONGEST_SECONDS)
    assert before + worked <= seen[0] <= seen[1] < seen[0] + worked


@pytest.mark.parametrize("end", ["start", "stop"])
def test_a_server_keeps_its_turn_while_its_start_keeps_the_event_loop_busy(tmp_path, monkeypatch, end):
    monkeypatch.setattr(module, "RENEW_SECONDS", 0.01)

    async def scenario():
        standby = Standby(Starting(2), tmp_path, "here")
        await standby.wait(lambda line: None)
        for _ in range(3):
            assert standby.store.renewed.acquire(timeout=LONGEST_SECONDS)  # nothing else runs in this thread
        if end == "start":
            standby.start(None, None, None)
            until_held_no_more()
        await standby.stop()
        until_held_no_more()

    asyncio.run(scenario())


def test_a_start_that_hangs_loses_its_turn(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "RENEW_SECONDS", 0.01)
    monkeypatch.setattr(module, "START_SECONDS", 0.1)

    async def scenario():
        standby = Standby(Starting(0), tmp_path, "here")
        await standby.wait(lambda line: None)
        until_held_no_more()
        await standby.stop()

    asyncio.run(scenario())


def test_every_server_that_works_has_a_higher_term_than_those_before(settings, monkeypatch):
    async def scenario():
        terms = []
        for _ in range(3):
            async with working(settings) as (standby, _):
                terms.append(standby.term)
        assert terms == [1, 2, 3]

    asyncio.run(scenario())


def test_a_server_that_was_taken_over_hears_of_it(settings, monkeypatch):
    monkeypatch.setattr(module, "RENEW_SECONDS", 0.05)
    monkeypatch.setattr(lease, "SECONDS", -1.0)  # each lease has expired when it is renewed

    async def scenario():
        async with working(settings) as (_, happened):
            other = Standby.open(settings, lambda step: None)
            await other.wait(lambda line: None)
            await other.lead()
            assert "has taken over" in await happened.get()
            await other.stop()
            other.store.close()

    asyncio.run(scenario())
