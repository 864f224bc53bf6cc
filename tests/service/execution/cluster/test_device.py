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
def alone(monkeypatch):
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
    made = Device((), {}, 1, None)
    for server in servers:
        assert await made.attach(server, VERSION, Mark(f"/{server}/jobs/.server-x", "")) is None
    try:
        yield made
    finally:
        for task in made._tasks:
            task.cancel()
        await asyncio.gather(*made._tasks, return_exceptions=True)


def order(server, name="job"):
    return {"run": asdict(Order(name, "alice", f"/{server}/jobs/{name}", {}, {}, 1, None, 1, None))}


async def settled():
    for _ in range(STEPS):
        await asyncio.sleep(0)


def test_orders_of_one_name_of_two_servers_are_two(monkeypatch):
    async def scenario():
        async with serving("a", "b") as made:
            for server in ("a", "b"):
                async with asyncio.timeout(20):
                    await made.post(server, [order(server)])
            first, second = made._worker.orders()
            assert first != second and made._worker.sent[0]["run"]["folder"] == "/a/jobs/job"
            await made.post("a", [{"cancel": "job"}])
            assert made._worker.sent[2:] == [{"cancel": first}]
            await made._worker.says(second, "progress", percent=1)
            await made._worker.says(first, "died")
            assert (await made.reports("b", 9))[0] == [{"report": "progress", "percent": 1, "request_id": "job"}]
            assert (await made.reports("a", 9))[0] == [{"report": "died", "request_id": "job"}]
            await made.detach("b")
            assert made._worker.sent[3:] == [{"cancel": second}]

    asyncio.run(scenario())


def test_an_order_waits_for_the_end_of_an_earlier_attempt_at_the_same():
    async def scenario():
        async with serving("a") as made:
            await made.post("a", [order("a")])
            again = asyncio.create_task(made.post("a", [order("a")]))
            await settled()
            [first] = made._worker.orders()
            assert {"cancel": first} in made._worker.sent and not again.done()
            await made._worker.says(first, "died")
            async with asyncio.timeout(20):
                await again
            assert len(made._worker.orders()) == 2
            assert made._boxes["a"].empty  # the end of the first one is not waited for

    asyncio.run(scenario())


def test_what_a_server_gave_before_it_attached_again_is_ended_for_it_was_reported_as_died():
    async def scenario():
        async with serving("a", "b") as made:
            for server in ("a", "b"):
                await made.post(server, [order(server)])
            [first, _] = made._worker.orders()
            assert await made.attach("a", VERSION, Mark("/a/jobs/.server-x", "")) is None
            assert made._worker.sent[2:] == [{"cancel": first}]
            await made._worker.says(first, "died")
            assert made._boxes["a"].empty and len(made._orders) == 1

    asyncio.run(scenario())


def test_an_order_that_waits_is_not_run_for_a_server_that_has_attached_again_since():
    async def scenario():
        async with serving("a") as made:
            await made.post("a", [order("a")])
            again = asyncio.create_task(made.post("a", [order("a")]))
            await settled()
            assert await made.attach("a", VERSION, Mark("/a/jobs/.server-x", "")) is None
            [first] = made._worker.orders()
            await made._worker.says(first, "died")
            async with asyncio.timeout(20):
                await again
            assert made._worker.orders() == [first] and not made._orders

    asyncio.run(scenario())


def test_lines_of_a_log_name_the_job_and_not_what_the_device_calls_it():
    async def scenario():
        async with serving("a") as made:
            await made.post("a", [order("a", "job/3.14")])
            assert Order(**made._worker.sent[0]["run"]).logged == "job/3.14"

    asyncio.run(scenario())


def test_however_much_an_attempt_reports_what_waits_for_a_server_stays_small():
    async def scenario():
        async with serving("a") as made:
            await made.post("a", [order("a")])
            [name] = made._worker.orders()
            for percent in range(10_000):
                await made._worker.says(name, "progress", percent=percent)
                await made._worker.says(name, "fragment")
            await made._worker.says(name, "joined", totals={})
            reports, _ = await made.reports("a", 2)
            assert [each["report"] for each in reports] == ["progress", "fragment"] and reports[0]["percent"] == 9999
            reports, _ = await made.reports("a", 9)
            assert [each["report"] for each in reports] == ["joined"]

    asyncio.run(scenario())


def test_a_server_that_takes_no_reports_is_answered_and_gets_them_later(monkeypatch):
    monkeypatch.setattr(device, "ASK_SECONDS", 0.01)

    async def scenario():
        async with serving("a") as made:
            await made.post("a", [order("a")])
            await made._worker.says(made._worker.orders()[0], "fragment")
            made._log("a line")
            asked = made._boxes["a"].polled_at = 0.0
            assert await made.reports("a", 0) == ([], ["a line"])
            assert made._boxes["a"].polled_at > asked
            assert [each["report"] for each in (await made.reports("a", 1))[0]] == ["fragment"]
            made._ended = "it died"
            assert await made.reports("a", 1) is None

    asyncio.run(scenario())


def test_servers_hear_how_busy_the_device_is(monkeypatch):
    monkeypatch.setattr(device, "CHECK_SECONDS", 0)

    async def scenario():
        async with serving("a") as made:
            await made._worker.says(None, "beat", load={"busy_seconds": 1.5, "frames": {"m": 3}})
            [beat], _ = await made.reports("a", 9)
            assert beat["load"]["busy_seconds"] == 1.5 and beat["load"]["frames"] == {"m": 3}
            server = Stub()
            await server._handle(beat, made._worker.on_report)
            assert server.state.load == made._load

    asyncio.run(scenario())
