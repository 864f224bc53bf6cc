"""A worker on a node as seen by its pool: polling is the sign of life, and slow handling of reports does not block it."""

import asyncio
from dataclasses import dataclass

import pytest

from upres.service.execution.cluster.shared_folder import Mark
from upres.service.execution.order import Order
from upres.service.execution.pool.worker import WorkerDiedError

RayError = pytest.importorskip("ray").exceptions.RayError
pytestmark = pytest.mark.scale

READY = {"report": "ready", "unavailable": {}, "kind": "a"}
PROGRESS = {"report": "progress", "request_id": "job"}


@dataclass
class Method:
    """A method of an actor, as in Ray."""

    remote: object


class Actor:
    """Fake actor.

    limits: the number of reports requested by each poll. detached: the servers that were detached. says: the next replies.
    """

    def __init__(self):
        self.limits, self.says, self.detached = [], asyncio.Queue(), []
        self.reports, self.post, self.detach = Method(self._reports), Method(self._posted), Method(self._detached)
        self.attach = Method(self._attach)

    async def _attach(self, *_):
        return None

    async def _posted(self, *_):
        await asyncio.sleep(0)

    async def _detached(self, server):
        self.detached.append(server)

    async def _reports(self, server, most):
        self.limits.append(most)
        if not most:
            await asyncio.sleep(0.01)
            return [], []
        answer = await self.says.get()
        if isinstance(answer, Exception):
            raise answer
        return answer if answer is None else (answer[:most], [])


def worker_of(actor):
    from upres.service.execution.cluster.nodes import Node, Place
    from upres.service.execution.cluster.worker import NodeWorker, Setup

    place = Place(Node("n", "a node", 1.0, 0.0), 0, 1, 1.0, 0.0)
    allowed = asyncio.Event()
    allowed.set()
    worker = NodeWorker(place, Setup(Mark("/x", ""), (), {}, None, allowed), 9, 0)
    worker._actor = lambda: actor
    return worker


async def nothing(name, report):
    pass


async def soon(condition):
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.001)


def test_a_database_that_is_away_holds_up_no_question_and_what_was_reported_comes_in_its_order(monkeypatch):
    from upres.service.execution.cluster import worker

    monkeypatch.setattr(worker, "MAX_REPORTS", 5)

    async def scenario():
        actor, reports, back = Actor(), [], asyncio.Event()

        async def hear(name, report):
            if name:
                await back.wait()
                reports.append(report.get("percent", report["report"]))

        node = worker_of(actor)
        keeping = asyncio.create_task(node.keep(hear))
        actor.says.put_nowait([READY])
        await soon(lambda: node.ready)
        await node.run(Order("job", "alice", "/job", {}, {}, 1, None, 1, None))
        for percent in range(6):  # one more than are queued: the first is being handled
            actor.says.put_nowait([{**PROGRESS, "percent": percent}])
        await soon(lambda: actor.limits.count(0) > 3)
        assert len(actor.limits) > 8 and max(actor.limits) == 5 and not reports
        actor.says.put_nowait([{"report": "joined", "request_id": "job", "totals": {}}, dict(READY)])
        actor.says.put_nowait(None)
        back.set()
        with pytest.raises(WorkerDiedError, match="gone with 0 attempts"):
            await keeping
        assert reports == [*range(6), "joined"] and not node.ready

    asyncio.run(scenario())


def test_reports_that_cannot_be_taken_end_the_use_of_a_device_and_its_attempts_have_died():
    async def scenario():
        actor, reports = Actor(), []

        async def hear(name, report):
            if report["report"] == "progress":
                raise RuntimeError("a fault of ours")
            reports.append((name, report["report"]))

        node = worker_of(actor)
        keeping = asyncio.create_task(node.keep(hear))
        actor.says.put_nowait([READY])
        await soon(lambda: node.ready)
        await node.run(Order("job", "alice", "/job", {}, {}, 1, None, 1, None))
        actor.says.put_nowait([dict(PROGRESS)])
        await asyncio.sleep(0)
        actor.says.put_nowait([])
        with pytest.raises(WorkerDiedError, match=r"with 1 attempt: .*a fault of ours"):
            await keeping
        assert reports == [("", "ready"), ("job", "died")] and actor.detached == ["/x"]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("method", "constant", "why"),
    [
        ("attach", "START_SECONDS", "it did not start within 0.05 s; its node may have no free resources"),
        ("reports", "ANSWER_SECONDS", "it has not replied for 0.05 s; its node may be gone"),
    ],
)
def test_a_device_that_never_started_is_told_from_one_that_does_not_reply_any_more(monkeypatch, method, constant, why):
    from upres.service.execution.cluster import worker

    monkeypatch.setattr(worker, constant, 0.05)
    killed = []
    monkeypatch.setattr(worker.ray, "kill", killed.append)

    async def scenario():
        actor = Actor()
        setattr(actor, method, Method(lambda *_: asyncio.sleep(60)))
        with pytest.raises(WorkerDiedError, match=why):
            await worker_of(actor).keep(nothing)
        assert killed == [actor]

    asyncio.run(scenario())


@pytest.mark.parametrize("reached", [True, False])
def test_a_device_whose_connection_breaks_is_left_so_that_what_ran_there_ends_at_once(reached):
    async def scenario():
        actor, reports = Actor(), []

        async def detach(server):
            actor.detached.append(server)
            if not reached:
                raise ConnectionError("it is broken still")

        actor.detach = Method(detach)

        async def hear(name, report):
            reports.append((name, report["report"]))
            if report["report"] == "died":
                assert actor.detached == ["/x"]

        node = worker_of(actor)
        keeping = asyncio.create_task(node.keep(hear))
        actor.says.put_nowait([READY])
        await soon(lambda: node.ready)
        await node.run(Order("job", "alice", "/job", {}, {}, 1, None, 1, None))
        actor.says.put_nowait(RayError("the connection was reset"))
        with pytest.raises(WorkerDiedError, match=r"with 1 attempt: RayError: the connection was reset"):
            await keeping
        assert reports == [("", "ready"), ("job", "died")]

    asyncio.run(scenario())


def test_a_device_that_does_not_hear_that_it_is_left_is_asked_no_more_so_that_it_ends_by_its_lease():
    async def scenario():
        actor, reports = Actor(), []

        async def detach(server):
            actor.detached.append(server)
            raise ConnectionError("it is broken for the moment")

        actor.detach = Method(detach)

        async def hear(name, report):
            reports.append((name, report["report"]))

        node = worker_of(actor)
        keeping = asyncio.create_task(node.keep(hear))
        actor.says.put_nowait([READY])
        await soon(lambda: node.ready)
        await node.run(Order("job", "alice", "/job", {}, {}, 1, None, 1, None))
        node._setup.allowed.clear()
        await node.leave()
        for _ in range(5):
            actor.says.put_nowait([])  # it would reply as before
        await soon(keeping.done)
        with pytest.raises(WorkerDiedError, match="with 1 attempt: it was detached but did not confirm that"):
            keeping.result()
        assert reports == [("", "ready"), ("job", "died")] and actor.detached and not node.ready
        polls = len(actor.limits)
        again = asyncio.create_task(node.keep(nothing))
        node._setup.allowed.set()
        await soon(lambda: len(actor.limits) > polls)
        again.cancel()
        await asyncio.wait([again])

    asyncio.run(scenario())


def test_a_live_job_keeps_its_device_while_others_leave_theirs():
    async def scenario():
        actor = Actor()
        node = worker_of(actor)
        keeping = asyncio.create_task(node.keep(nothing))
        actor.says.put_nowait([READY])
        await soon(lambda: node.ready)
        await node.run(Order("live", "alice", "/job", {"live": True}, {}, 1, None, 1, None))
        await node.leave()
        for _ in range(5):
            actor.says.put_nowait([])
        await soon(lambda: len(actor.limits) > 5)
        assert not actor.detached and not keeping.done()
        keeping.cancel()
        await asyncio.wait([keeping])

    asyncio.run(scenario())


def test_a_pause_that_comes_while_it_attaches_leaves_the_device_which_nobody_asks_until_that_ends():
    async def scenario():
        actor, attaching, answer = Actor(), asyncio.Event(), asyncio.Event()

        async def attach(*_):
            attaching.set()
            await answer.wait()

        actor.attach = Method(attach)
        node = worker_of(actor)
        keeping = asyncio.create_task(node.keep(nothing))
        await attaching.wait()
        node._setup.allowed.clear()
        await node.leave()
        answer.set()
        await soon(lambda: keeping.done() or actor.limits)
        with pytest.raises(WorkerDiedError, match="has released its devices"):
            keeping.result()
        assert actor.detached == ["/x"] and not actor.limits
        again = asyncio.create_task(node.keep(nothing))
        await asyncio.sleep(0)
        assert not actor.limits
        node._setup.allowed.set()
        await soon(lambda: actor.limits)
        again.cancel()
        await asyncio.wait([again])

    asyncio.run(scenario())
