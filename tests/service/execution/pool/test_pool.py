"""A pool of workers: one verdict per job, once nothing of it is running, whatever its attempts and ranges report."""

import asyncio
from dataclasses import replace

import pytest

from upres.engine.segments.folder import FolderLog
from upres.service.execution.base import Shortage
from upres.service.execution.order import Order
from upres.service.execution.pool import pool as pool_module
from upres.service.execution.pool.pool import Pool
from upres.service.execution.pool.worker import PooledWorker

ORDER = Order("job", "alice", "/job", {}, {}, 1, None, 1, None)
STEPS = 20  # iterations of the event loop, enough for started tasks to run


class Stub(PooledWorker):
    """Worker that runs nothing. sent: messages received; ranges: those for ranges. refuses: it rejects orders."""

    def __init__(self):
        super().__init__(slots=1, live_slots=0)
        self.ready, self.sent, self.refuses = True, [], False

    async def keep(self, on_report):
        self.on_report = on_report
        await asyncio.Event().wait()

    async def _send(self, message):
        if self.refuses:
            raise RuntimeError("it is full")
        self.sent.append(message)

    async def says(self, name, report, **values):
        await self._handle({"request_id": name, "report": report, **values}, self.on_report)
        await settled()

    @property
    def ranges(self):
        return [name for name in self._running if name != "job"]


async def settled():
    for _ in range(STEPS):
        await asyncio.sleep(0)


def scenario(play, numbers=(0, 2, 3)):
    """Run a pool of two workers; the first has an attempt at a job that requests some ranges."""

    async def run():
        workers, reports = [Stub(), Stub()], []

        async def hear(name, report):
            reports.append((name, report["report"]))

        pool = Pool(workers)
        await pool.start(hear)
        await settled()
        await pool.run(ORDER)
        await workers[0].says("job", "ranges", numbers=[*numbers])
        try:
            await play(pool, workers, reports)
        finally:
            await pool.stop()

    asyncio.run(run())


def test_a_verdict_comes_once_no_range_is_under_way():
    async def play(pool, workers, reports):
        first, second = workers[0].ranges[0], workers[1].ranges[0]
        await workers[0].says("job", "joined")
        assert reports == [] and {"cancel": first} in workers[0].sent and {"cancel": second} in workers[1].sent
        await workers[1].says(second, "died")
        assert reports == []
        await workers[0].says(first, "died")
        assert reports == [("job", "joined")]

    scenario(play)


def test_who_waits_for_memory_is_named_by_device_with_those_who_hold_some_there_now_and_nobody_else():
    async def play(pool, workers, reports):
        first, second = workers
        [waits], [makes] = first.ranges, second.ranges
        first._running |= {"here", "looks at its source"}
        second._running.add("there")
        await first.says(waits, "memory", waits=True, holding=["here@3", "gone@2"])  # with a number, as on nodes
        assert reports == [("job", "memory")]
        assert pool.shortages == [Shortage(frozenset({"job"}), frozenset({"here"}))]
        await second.says("there", "memory", waits=True, holding=[makes])
        assert pool.shortages[1:] == [Shortage(frozenset({"there"}), frozenset({"job"}))]
        await second.says("there", "memory", waits=False, holding=[])
        await first.says(waits, "memory", waits=True, holding=["looks at its source"])  # which holds the memory now
        assert pool.shortages == [Shortage(frozenset({"job"}), frozenset({"looks at its source"}))]
        await first.says(waits, "memory", waits=True, holding=[waits])
        assert pool.shortages == [Shortage(frozenset({"job"}), frozenset())]
        await first.says(waits, "died")
        assert pool.shortages == []

    scenario(play)


def test_who_waits_for_an_encoder_is_named_with_those_who_have_one_now_and_nobody_else():
    async def play(pool, workers, reports):
        first = workers[0]
        first._running |= {"waits", "has one", "has none"}
        await first.says("waits", "memory", waits=True, holding=["has one@7", "gone@8"])  # with a number, as on nodes
        assert pool.shortages == [Shortage(frozenset({"waits"}), frozenset({"has one"}))]
        await first.says("has one", "memory", waits=True, holding=[])  # which keeps its encoder
        assert Shortage(frozenset({"waits"}), frozenset({"has one"})) in pool.shortages
        await first.says("has one", "died")
        first._running.add("has one")  # again, without an encoder
        assert pool.shortages == [Shortage(frozenset({"waits"}), frozenset())]
        await first.says("waits", "memory", waits=False, holding=[])
        assert pool.shortages == []

    scenario(play)


def test_what_an_earlier_attempt_leaves_does_not_count_for_the_next():
    async def play(pool, workers, reports):
        stale = [*workers[0].ranges, *workers[1].ranges]
        pool._split.start(ORDER)
        pool._split.split("job", range(3))
        order = pool._split.next()
        assert order.range_number == 0 and order.request_id not in stale
        assert all(pool._split.ended(name, {"report": "died"}) is None for name in stale * 3)
        assert pool._split.next().range_number == 1

    scenario(play)


@pytest.mark.parametrize("refuses", [False, True])
def test_a_job_whose_ranges_are_lost_goes_on_alone_unless_it_is_cancelled(refuses):
    async def play(pool, workers, reports):
        await workers[1].says(workers[1].ranges[0], "made")
        await workers[1].says(workers[1].ranges[0], "made")
        for _ in range(3):
            front = workers[0].ranges or workers[1].ranges
            worker = workers[0] if workers[0].ranges else workers[1]
            await worker.says(front[0], "failed", message="x")
        assert {"cancel": "job"} in workers[0].sent and not (workers[0].ranges or workers[1].ranges)
        for worker in workers:
            worker._running.add("other")
        workers[0].refuses = workers[1].refuses = refuses
        await workers[0].says("job", "died")
        assert reports == [] and [waiting.order.devices for waiting in pool._waiting] == [0]
        if refuses:
            workers[1]._running.clear()
            await workers[1].says("other", "died")
            pool._changed.set()
            await settled()
        else:
            await pool.cancel("job")
        assert reports == [("job", "died")] and not pool._waiting

    scenario(play)


def test_a_range_that_was_not_made_though_reported_is_made_again_and_at_last_ends_its_attempt():
    async def play(pool, workers, reports):
        for _ in range(3):
            worker = next(each for each in workers if any(name.endswith(".0") for name in each.ranges))
            await worker.says(next(name for name in worker.ranges if name.endswith(".0")), "made")
            await workers[0].says("job", "awaits", number=0)
            assert {"cancel": "job"} not in workers[0].sent
            await workers[0].says("job", "awaits", number=0)
            for each in workers:  # so that a worker accepts it
                for name in each.ranges:
                    if not name.endswith(".0"):
                        await each.says(name, "made")
        assert {"cancel": "job"} in workers[0].sent

    scenario(play)


def test_an_attempt_asks_for_ranges_once():
    async def play(pool, workers, reports):
        await workers[0].says("job", "ranges", numbers=[])
        await workers[0].says("job", "ranges", numbers=list(range(9)))
        assert pool._split.next() is None

    scenario(play)


def test_a_worker_that_has_read_a_range_gets_the_next_one_and_an_idle_worker_gets_it_first():
    def numbers(worker):
        return [name.rpartition(".")[2] for name in sorted(worker.ranges)]

    async def play(pool, workers, reports):
        first, second = workers
        job = first.ranges[0].removesuffix("0")
        assert (numbers(first), numbers(second)) == (["0"], ["1"])
        await first.says(f"{job}0", "read")
        await first.says(f"{job}2", "read")
        assert (numbers(first), numbers(second)) == (["0", "2"], ["1"])
        await second.says(f"{job}1", "made")
        await first.says(f"{job}0", "made")
        assert (numbers(first), numbers(second)) == (["2", "4"], ["3"])
        await first.says(f"{job}4", "made")
        await second.says(f"{job}3", "died")
        assert (numbers(first), numbers(second)) == (["2"], ["3"])
        assert reports == []

    scenario(play, range(5))


def test_a_worker_takes_the_next_range_while_the_end_of_the_one_before_is_reported():
    async def run():
        worker, seen = Stub(), []

        async def hear(name, report):
            seen.append((report["report"], worker.takes_range))

        worker.on_report = hear
        await worker.run(replace(ORDER, range_number=0))
        assert not worker.takes_range
        await worker.says("job", "made")
        assert seen == [("made", True)] and not worker._ranges

    asyncio.run(run())


@pytest.fixture
def begun(tmp_path):
    """A function that returns an order for a job whose log the GPU, or the CPU, has started."""

    def order(name, nvenc):
        FolderLog(tmp_path / name / "log", {"encoder": {"nvenc": nvenc}}).close()
        return replace(ORDER, request_id=name, folder=str(tmp_path / name))

    return order


def mixed(play):
    """Run a pool of two workers; the second has NVENC."""

    async def run():
        workers, reports = [Stub(), Stub()], []
        workers[1].nvenc = True

        async def hear(name, report):
            reports.append((name, report["report"]))

        pool = Pool(workers)
        await pool.start(hear)
        await settled()
        try:
            await play(pool, workers, reports)
        finally:
            await pool.stop()

    asyncio.run(run())


def orders_of(worker):
    return [message["run"]["request_id"] for message in worker.sent if "run" in message]


async def until(condition):
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


def test_what_nvenc_began_goes_to_a_worker_that_has_it_and_waits_for_its_room(begun):
    async def play(pool, workers, reports):
        without, having = workers
        await pool.run(begun("first", nvenc=True))
        await until(lambda: orders_of(having) == ["first"])
        await pool.run(begun("second", nvenc=True))  # although the other one has room
        assert pool.room == 0
        await pool.run(begun("third", nvenc=False))
        await settled()
        assert (orders_of(without), orders_of(having)) == (["third"], ["first"])
        await having.says("first", "joined")
        await until(lambda: orders_of(having) == ["first", "second"])
        assert having.sent[-1]["run"]["devices"] == 2 and reports == [("first", "joined")]
        await having.says("second", "joined")
        assert reports[-1] == ("second", "joined") and pool.room == 1

    mixed(play)


def test_where_no_worker_has_nvenc_any_more_another_one_goes_on(begun, monkeypatch):
    async def play(pool, workers, reports):
        without, having = workers
        having.ready = False  # it is restarted
        await pool.run(begun("first", nvenc=True))
        await pool.run(begun("second", nvenc=True))
        await settled()
        assert orders_of(without) == orders_of(having) == []
        await pool.cancel("second")
        assert reports == [("second", "died")]
        monkeypatch.setattr(pool_module, "NVENC_SECONDS", 0.0)
        await until(lambda: orders_of(without) == ["first"])
        await without.says("first", "joined")
        having.nvenc, having.ready = False, True  # it is ready again, but its GPU has no encoder
        await pool.run(begun("third", nvenc=True))
        assert orders_of(without) + orders_of(having) == ["first", "third"]

    mixed(play)


def test_a_worker_that_dies_tells_which_orders_had_reached_it():
    async def play(pool, workers, reports):
        first, second = workers[0].ranges[0], workers[1].ranges[0]
        lost = []

        async def on_report(name, report):
            lost.append((name, report["started"]))

        await workers[1].says(second, "started")
        assert reports == []
        for worker in workers:
            await worker._report_lost(on_report)
        assert sorted(lost) == sorted([(first, False), ("job", True), (second, True)])

    scenario(play)
