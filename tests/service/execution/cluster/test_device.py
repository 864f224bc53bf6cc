"""The actor on a node: keeps reports for the servers that share a device; each server has its own orders. Without Ray."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import asdict

import pytest

from upres.service.execution.cluster import device
from upres.service.execution.cluster.device import Device
from upres.service.execution.cluster.shared_folder import Mark
from upres.service.execution.order import Order
from upres.service.execution.pool.worker import PooledWorker

VERSION = "1"
STEPS = 20  # iterations of the event loop, enough for started tasks to run


class Stub(PooledWorker):
    """Worker that runs nothing. sent: the messages it received."""

    def __init__(self, *_):
        super().__init__(0, 0)
        self.sent = []

    async def keep(self, on_report):
        self.on_report = on_report
        await asyncio.Event().wait()

    async def _send(self, message):
        self.sent.append(message)

    async def says(self, name, report, **values):
        await self._handle({"request_id": name, "report": report, **values}, self.on_report)

    def orders(self):
        return [message["run"]["request_id"] for message in self.sent if "run" in message]


@pytest.fixture(autouse=True)
def without_process(monkeypatch):
    """A device without a separate process, which would end with it."""
    monkeypatch.setattr(device, "WorkerProcess", Stub)
    monkeypatch.setattr(device, "version", lambda name: VERSION)
    monkeypatch.setattr(device, "problem", lambda mark: None)
    monkeypatch.setattr(device.os, "_exit", lambda status: None)
    monkeypatch.setattr(device.job_logging, "configure", lambda form: None)
    monkeypatch.setattr(device.job_logging, "forward_to", lambda take: None)
    monkeypatch.setattr(device, "END_SECONDS", 0)


@asynccontextmanager
async def serving(*servers):
    """A device that works for servers, each with its own folder."""
    actor = Device((), {}, 1, None)
    for server in servers:
        assert await actor.attach(server, VERSION, Mark(f"/{server}/jobs/.server-x", "")) is None
    try:
        yield actor
    finally:
        for task in actor._tasks:
            task.cancel()
        await asyncio.gather(*actor._tasks, return_exceptions=True)


def order(server, name="job"):
    return {"run": asdict(Order(name, "alice", f"/{server}/jobs/{name}", {}, {}, 1, None, 1, None))}


async def settled():
    for _ in range(STEPS):
        await asyncio.sleep(0)


def test_orders_of_one_name_of_two_servers_are_two(monkeypatch):
    async def scenario():
        async with serving("a", "b") as actor:
            for server in ("a", "b"):
                async with asyncio.timeout(20):
                    await actor.post(server, [order(server)])
            first, second = actor._worker.orders()
            assert first != second and actor._worker.sent[0]["run"]["folder"] == "/a/jobs/job"
            await actor.post("a", [{"cancel": "job"}])
            assert actor._worker.sent[2:] == [{"cancel": first}]
            await actor._worker.says(second, "progress", percent=1)
            await actor._worker.says(first, "died")
            assert (await actor.reports("b", 9))[0] == [{"report": "progress", "percent": 1, "request_id": "job"}]
            assert (await actor.reports("a", 9))[0] == [{"report": "died", "request_id": "job"}]
            await actor.detach("b")
            assert actor._worker.sent[3:] == [{"cancel": second}]

    asyncio.run(scenario())


def test_an_order_waits_for_the_end_of_an_earlier_attempt_at_the_same():
    async def scenario():
        async with serving("a") as actor:
            await actor.post("a", [order("a")])
            again = asyncio.create_task(actor.post("a", [order("a")]))
            await settled()
            [first] = actor._worker.orders()
            assert {"cancel": first} in actor._worker.sent and not again.done()
            await actor._worker.says(first, "died")
            async with asyncio.timeout(20):
                await again
            assert len(actor._worker.orders()) == 2
            assert actor._boxes["a"].empty  # the end of the first one is not waited for

    asyncio.run(scenario())


def test_what_a_server_gave_before_it_attached_again_is_ended_for_it_was_reported_as_died():
    async def scenario():
        async with serving("a", "b") as actor:
            for server in ("a", "b"):
                await actor.post(server, [order(server)])
            [first, _] = actor._worker.orders()
            assert await actor.attach("a", VERSION, Mark("/a/jobs/.server-x", "")) is None
            assert actor._worker.sent[2:] == [{"cancel": first}]
            await actor._worker.says(first, "died")
            assert actor._boxes["a"].empty and len(actor._orders) == 1

    asyncio.run(scenario())


def test_an_order_that_waits_is_not_run_for_a_server_that_has_attached_again_since():
    async def scenario():
        async with serving("a") as actor:
            await actor.post("a", [order("a")])
            again = asyncio.create_task(actor.post("a", [order("a")]))
            await settled()
            assert await actor.attach("a", VERSION, Mark("/a/jobs/.server-x", "")) is None
            [first] = actor._worker.orders()
            await actor._worker.says(first, "died")
            async with asyncio.timeout(20):
                await again
            assert actor._worker.orders() == [first] and not actor._orders

    asyncio.run(scenario())


def test_lines_of_a_log_name_the_job_and_not_what_the_device_calls_it():
    async def scenario():
        async with serving("a") as actor:
            await actor.post("a", [order("a", "job/3.14")])
            assert Order(**actor._worker.sent[0]["run"]).logged == "job/3.14"

    asyncio.run(scenario())


def test_however_much_an_attempt_reports_what_waits_for_a_server_stays_small():
    async def scenario():
        async with serving("a") as actor:
            await actor.post("a", [order("a")])
            [name] = actor._worker.orders()
            for percent in range(10_000):
                await actor._worker.says(name, "progress", percent=percent)
                await actor._worker.says(name, "fragment")
            await actor._worker.says(name, "joined", totals={})
            reports, _ = await actor.reports("a", 2)
            assert [each["report"] for each in reports] == ["progress", "fragment"] and reports[0]["percent"] == 9999
            reports, _ = await actor.reports("a", 9)
            assert [each["report"] for each in reports] == ["joined"]

    asyncio.run(scenario())


def test_a_server_that_takes_no_reports_is_answered_and_gets_them_later(monkeypatch):
    monkeypatch.setattr(device, "ASK_SECONDS", 0.01)

    async def scenario():
        async with serving("a") as actor:
            await actor.post("a", [order("a")])
            await actor._worker.says(actor._worker.orders()[0], "fragment")
            actor._log("a line")
            polled_at = actor._boxes["a"].polled_at = 0.0
            assert await actor.reports("a", 0) == ([], ["a line"])
            assert actor._boxes["a"].polled_at > polled_at
            assert [each["report"] for each in (await actor.reports("a", 1))[0]] == ["fragment"]
            actor._ended = "it died"
            assert await actor.reports("a", 1) is None

    asyncio.run(scenario())


def test_servers_hear_how_busy_the_device_is(monkeypatch):
    monkeypatch.setattr(device, "CHECK_SECONDS", 0)

    async def scenario():
        async with serving("a") as actor:
            await actor._worker.says(None, "beat", load={"busy_seconds": 1.5, "frames": {"m": 3}})
            [beat], _ = await actor.reports("a", 9)
            assert beat["load"]["busy_seconds"] == 1.5 and beat["load"]["frames"] == {"m": 3}
            server = Stub()
            await server._handle(beat, actor._worker.on_report)
            assert server.state.load == actor._load

    asyncio.run(scenario())


@pytest.mark.parametrize("private", [True, False])
def test_a_server_that_died_keeps_its_attempts_only_where_another_one_has_its_folder(monkeypatch, private):
    monkeypatch.setattr(device, "CHECK_SECONDS", 0.01)
    looked = []

    def is_held(mark):
        looked.append(mark)
        return mark.path == "/b/jobs/.server-x"

    monkeypatch.setattr(device, "is_held", is_held)

    async def scenario():
        async with serving() as actor, asyncio.timeout(60):
            for server in ("a", "b"):
                mark = Mark(f"/{server}/jobs/.server-x", "", private=private)
                assert await actor.attach(server, VERSION, mark) is None
                await actor.post(server, [order(server)])
            if private:
                while "a" in actor._boxes:
                    await asyncio.sleep(0.01)
                assert sum("cancel" in message for message in actor._worker.sent) == 1 and "b" in actor._boxes
            else:
                await asyncio.sleep(0.2)
                assert [*actor._boxes] == ["a", "b"] and not looked

    asyncio.run(scenario())
