"""Jobs whose ranges are made by several workers at once: which range is next, and what becomes of one that was not made.

Only bookkeeping, so that any executor can keep to it.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from itertools import count

from upres.engine.ranges.board import Board
from upres.service.execution.base import Report
from upres.service.execution.order import Order

SEPARATOR, SERIAL_END = "/", "."
LOCK_SECONDS = 5.0  # that a range's attempt waits for its lock: there are others to make
PAUSE_SECONDS = 5.0  # before a range is given again that was locked
HELD_SECONDS = 150.0  # that a range may be locked by an attempt of before: longer than servers of files keep a dead machine's locks


@dataclass(slots=True)
class _Split:
    """A job's order. serial: of the attempt at it. kind: of the workers that may make its ranges.

    board: of the ranges, while they are made. asked: the attempt has said which, once and for all. under_way: names of orders.
    alone: it is to go without ranges. verdict: how the attempt has ended. locked, due: of ranges that another attempt holds, since
    when, and when they are given again. spared: ranges whose order was lost once, which is no try at them.
    """

    order: Order
    serial: int
    kind: str = ""
    board: Board | None = None
    asked: bool = False
    under_way: set[str] = field(default_factory=set)
    alone: bool = False
    verdict: Report | None = None
    locked: dict[int, float] = field(default_factory=dict)
    due: dict[int, float] = field(default_factory=dict)
    spared: set[int] = field(default_factory=set)

    def next(self, now: float) -> int | None:
        """Take the number of the next range, one first that was locked; None without one."""
        if self.board is None:
            return None
        number = min((number for number, due in self.due.items() if due <= now), default=None)
        if number is not None:
            del self.due[number]
            return number
        return self.board.take(wait=False)


class SplitJobs:
    """The jobs under way. The attempt at a job reports which ranges it wants; each is an order of its own, named by `next`."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._jobs: dict[str, _Split] = {}
        self._serials = count()

    def __contains__(self, request_id: str) -> bool:
        """Tell whether a job may have ranges, or orders of these under way."""
        return request_id in self._jobs

    @staticmethod
    def job_of(name: str) -> str | None:
        """Return the job of which an order's name says that it is for a range; None for a job's own."""
        request_id, separator, _ = name.partition(SEPARATOR)
        return request_id if separator else None

    def start(self, order: Order, kind: str = "") -> None:
        """Note the order of a job that may have ranges, to be made by workers of the kind that plans them."""
        self._jobs[order.request_id] = _Split(order, next(self._serials), kind)

    def split(self, request_id: str, numbers: Iterable[int]) -> set[str]:
        """Take the ranges that a job wants, the first time; none: it goes on without. Return the names of orders no more wanted."""
        job = self._jobs.get(request_id)
        if job is None or job.alone or job.verdict is not None:
            return set()
        wanted, asked, job.asked = {*numbers}, job.asked, True
        if not wanted:
            job.board = None
            return {*job.under_way}
        if not asked:
            job.board = Board(wanted)
        return set()

    def missed(self, request_id: str, number: int) -> str | None:
        """Note that a job waits for a range; return the job where it cannot have ranges, as of `ended`."""
        job = self._jobs.get(request_id)
        if job is None or job.board is None:
            return None
        job.board.miss(number)
        return self._given_up(job)

    def next(self, kind: str = "") -> Order | None:
        """Return the order of the next range for a worker of this kind, of the job with the fewest under way; None without one."""
        for job in sorted(self._jobs.values(), key=lambda job: len(job.under_way)):
            if job.kind == kind and (number := job.next(self._clock())) is not None:
                name = f"{job.order.request_id}{SEPARATOR}{job.serial}{SERIAL_END}{number}"
                job.under_way.add(name)
                return replace(job.order, request_id=name, range_number=number, lock_seconds=LOCK_SECONDS)
        return None

    def ended(self, name: str, report: Report) -> str | None:
        """Note how a range's order has ended; return its job where that cannot have ranges: its attempt is to be ended."""
        job = self._jobs.get(self.job_of(name) or "")
        if job is None or name not in job.under_way:  # of an earlier attempt
            return None
        job.under_way.discard(name)
        if job.board is None:
            return None
        number = int(name.rpartition(SERIAL_END)[2])
        if report["report"] == "locked":
            return self._locked(job, number)
        job.locked.pop(number, None)
        if not report.get("started", True) and number not in job.spared:  # it met a worker that was dead
            job.spared.add(number)
            job.due[number] = self._clock()
            return None
        if report["report"] == "made":
            job.board.made(number)
            return None
        job.board.fail(number, RuntimeError(report.get("message", report["report"])))
        return self._given_up(job)

    def close(self, request_id: str, report: Report) -> set[str]:
        """Note how a job's attempt has ended; return the names of its ranges' orders, which are no more wanted."""
        job = self._jobs[request_id]
        job.verdict, job.board = report, None
        return {*job.under_way}

    def settled(self, request_id: str) -> tuple[Report, Order | None] | None:
        """Forget a job whose attempt and ranges have all ended: how, and the order by which it goes on alone, if it does."""
        job = self._jobs.get(request_id)
        if job is None or job.verdict is None or job.under_way:
            return None
        del self._jobs[request_id]
        again = job.alone and job.verdict["report"] == "died"
        return job.verdict, replace(job.order, devices=0) if again else None

    def cancel(self, request_id: str) -> None:
        """Note that a job is not to go on in any way."""
        if job := self._jobs.get(request_id):
            job.board, job.alone = None, False

    def _locked(self, job: _Split, number: int) -> str | None:
        """Have a range given again in a while, which is no try at it; return its job where it has been locked for too long."""
        now = self._clock()
        if now - job.locked.setdefault(number, now) < HELD_SECONDS:
            job.due[number] = now + PAUSE_SECONDS
            return None
        job.board, job.alone = None, True
        return job.order.request_id

    @staticmethod
    def _given_up(job: _Split) -> str | None:
        if job.board is None or job.board.lost is None:
            return None
        job.board, job.alone = None, True
        return job.order.request_id
