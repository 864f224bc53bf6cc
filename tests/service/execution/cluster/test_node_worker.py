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
    """Fake actor. asked: the number of reports requested by each poll. says: the next replies."""

    def __init__(self):
        self.asked, self.says, self.left = [], asyncio.Queue(), []
        self.reports, self.post, self.detach = Method(self._reports), Method(self._posted), Method(self._detached)
        self.attach = Method(self._attach)

    async def _attach(self, *_):
        return None

    async def _posted(self, *_):
        await asyncio.sleep(0)

    async def _detached(self, server):
        self.left.append(server)

    async def _reports(self, server, most):
        self.asked.append(most)
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
    made = NodeWorker(place, Setup(Mark("/x", ""), (), {}, None, allowed), 9, 0)
    made._actor = lambda: actor
    return made


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
        actor, heard, back = Actor(), [], asyncio.Event()

        async def hear(name, report):
            if name:
                await back.wait()
                heard.append(report.get("percent", report["report"]))

        node = worker_of(actor)
        keeping = asyncio.create_task(node.keep(hear))
        actor.says.put_nowait([READY])
        await soon(lambda: node.ready)
        await node.run(Order("job", "alice", "/job", {}, {}, 1, None, 1, None))
        for percent in range(6):  # one more than are queued: the first is being handled
            actor.says.put_nowait([{**PROGRESS, "percent": percent}])
        await soon(lambda: actor.asked.count(0) > 3)
        assert len(actor.asked) > 8 and max(actor.asked) == 5 and not heard
        actor.says.put_nowait([{"report": "joined", "request_id": "job", "totals": {}}, dict(READY)])
        actor.says.put_nowait(None)
        back.set()
        with pytest.raises(WorkerDiedError, match="gone with 0 attempts"):
            await keeping
        assert heard == [*range(6), "joined"] and not node.ready

    asyncio.run(scenario())


def test_reports_that_cannot_be_taken_end_the_use_of_a_device_and_its_attempts_have_died():
    async def scenario():
        actor, heard = Actor(), []

        async def hear(name, report):
            if report["report"] == "progress":
                raise RuntimeError("a fault of ours")
            heard.append((name, report["report"]))

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
        assert heard == [("", "ready"), ("job", "died")] and actor.left == ["/x"]

    asyncio.run(scenario())


@pytest.mark.parametrize("reached", [True, False])
def test_a_device_whose_connection_breaks_is_left_so_that_what_ran_there_ends_at_once(reached):
    async def scenario():
        actor, heard = Actor(), []

        async def detach(server):
            actor.left.append(server)
            if not reached:
                raise ConnectionError("it is broken still")

        actor.detach = Method(detach)

        async def hear(name, report):
            heard.append((name, report["report"]))
            if report["report"] == "died":
                assert actor.left == ["/x"]

        node = worker_of(actor)
        keeping = asyncio.create_task(node.keep(hear))
        actor.says.put_nowait([READY])
        await soon(lambda: node.ready)
        await node.run(Order("job", "alice", "/job", {}, {}, 1, None, 1, None))
        actor.says.put_nowait(RayError("the connection was reset"))
        with pytest.raises(WorkerDiedError, match=r"with 1 attempt: RayError: the connection was reset"):
            await keeping
        assert heard == [("", "ready"), ("job", "died")]

    asyncio.run(scenario())


def test_a_device_that_does_not_hear_that_it_is_left_is_asked_no_more_so_that_it_ends_by_its_lease():
    async def scenario():
        actor, heard = Actor(), []

        async def detach(server):
            actor.left.append(server)
            raise ConnectionError("it is broken for the moment")

        actor.detach = Method(detach)

        async def hear(name, report):
            heard.append((name, report["report"]))

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
        assert heard == [("", "ready"), ("job", "died")] and actor.left and not node.ready
        asked = len(actor.asked)
        again = asyncio.create_task(node.keep(nothing))
        node._setup.allowed.set()
        await soon(lambda: len(actor.asked) > asked)
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
        await soon(lambda: len(actor.asked) > 5)
        assert not actor.left and not keeping.done()
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
        await soon(lambda: keeping.done() or actor.asked)
        with pytest.raises(WorkerDiedError, match="has released its devices"):
            keeping.result()
        assert actor.left == ["/x"] and not actor.asked
        again = asyncio.create_task(node.keep(nothing))
        await asyncio.sleep(0)
        assert not actor.asked
        node._setup.allowed.set()
        await soon(lambda: actor.asked)
        again.cancel()
        await asyncio.wait([again])

    asyncio.run(scenario())
