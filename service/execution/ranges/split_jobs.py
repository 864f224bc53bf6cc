"""Jobs whose ranges several workers process concurrently: selects the next range, and decides what follows a failed one.

This is only bookkeeping, which any executor can use.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from itertools import count

from upres.engine.ranges.board import Board
from upres.service.execution.base import Report
from upres.service.execution.order import Order

SEPARATOR, SERIAL_END = "/", "."
LOCK_SECONDS = 5.0  # for a range's attempt to wait for its lock: other ranges could be processed instead
PAUSE_SECONDS = 5.0  # before a range that was locked is retried
MAX_LOCKED_SECONDS = 150.0  # maximum lock by an earlier attempt: longer than file servers keep a dead machine's locks


@dataclass(slots=True)
class _Split:
    """The state of one job. serial: number of the attempt at it. kind: of the workers that may process its ranges.

    board: of the ranges, while they are processed. requested: the attempt has requested its ranges, which it does once. under_way:
    names of running orders. undivided: the job is to be resumed without ranges. verdict: of the attempt. locked: ranges that
    another attempt holds, with the time since when. due: when these are retried. spared: ranges whose order was lost once, which
    does not count as a try.
    """

    order: Order
    serial: int
    kind: str = ""
    board: Board | None = None
    requested: bool = False
    under_way: set[str] = field(default_factory=set)
    undivided: bool = False
    verdict: Report | None = None
    locked: dict[int, float] = field(default_factory=dict)
    due: dict[int, float] = field(default_factory=dict)
    spared: set[int] = field(default_factory=set)

    def next(self, now: float) -> int | None:
        """Return the number of the next range, preferring ones that were locked; None if there is none."""
        if self.board is None:
            return None
        number = min((number for number, due in self.due.items() if due <= now), default=None)
        if number is not None:
            del self.due[number]
            return number
        return self.board.take(wait=False)


class SplitJobs:
    """The running jobs. The attempt at a job reports which ranges it needs; each is a separate order, created by `next`."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._jobs: dict[str, _Split] = {}
        self._serials = count()

    def __contains__(self, request_id: str) -> bool:
        """Return whether a job may have ranges, or range orders that are still running."""
        return request_id in self._jobs

    @staticmethod
    def job_of(name: str) -> str | None:
        """Return the job of a range order by the order's name; None for the order of a whole job."""
        request_id, separator, _ = name.partition(SEPARATOR)
        return request_id if separator else None

    def start(self, order: Order, kind: str = "") -> None:
        """Register the order of a job that may have ranges, to be processed by workers of this kind."""
        self._jobs[order.request_id] = _Split(order, next(self._serials), kind)

    def split(self, request_id: str, numbers: Iterable[int]) -> set[str]:
        """Register the ranges that a job needs, once; without any it continues as a whole. Return the names of obsolete orders."""
        job = self._jobs.get(request_id)
        if job is None or job.undivided or job.verdict is not None:
            return set()
        numbers_needed, requested, job.requested = {*numbers}, job.requested, True
        if not numbers_needed:
            job.board = None
            return {*job.under_way}
        if not requested:
            job.board = Board(numbers_needed)
        return set()

    def missed(self, request_id: str, number: int) -> str | None:
        """Record that a job waits for a range; return the job if its ranges cannot be completed, as `ended` does."""
        job = self._jobs.get(request_id)
        if job is None or job.board is None:
            return None
        job.board.miss(number)
        return self._give_up_if_lost(job)

    def next(self, kind: str = "") -> Order | None:
        """Return an order for the next range for a worker of this kind, from the job with the fewest running; None without one."""
        for job in sorted(self._jobs.values(), key=lambda job: len(job.under_way)):
            if job.kind == kind and (number := job.next(self._clock())) is not None:
                name = f"{job.order.request_id}{SEPARATOR}{job.serial}{SERIAL_END}{number}"
                job.under_way.add(name)
                return replace(job.order, request_id=name, range_number=number, lock_seconds=LOCK_SECONDS)
        return None

    def ended(self, name: str, report: Report) -> str | None:
        """Record the end of a range order; return its job if the ranges cannot be completed and its attempt must be ended."""
        job = self._jobs.get(self.job_of(name) or "")
        if job is None or name not in job.under_way:  # belongs to an earlier attempt
            return None
        job.under_way.discard(name)
        if job.board is None:
            return None
        number = int(name.rpartition(SERIAL_END)[2])
        if report["report"] == "locked":
            return self._retry_locked(job, number)
        job.locked.pop(number, None)
        if not report.get("started", True) and number not in job.spared:  # it was sent to a dead worker
            job.spared.add(number)
            job.due[number] = self._clock()
            return None
        if report["report"] == "made":
            job.board.complete(number)
            return None
        job.board.fail(number, RuntimeError(report.get("message", report["report"])))
        return self._give_up_if_lost(job)

    def close(self, request_id: str, report: Report) -> set[str]:
        """Record the end of a job's attempt; return the names of its range orders, which are obsolete."""
        job = self._jobs[request_id]
        job.verdict, job.board = report, None
        return {*job.under_way}

    def settled(self, request_id: str) -> tuple[Report, Order | None] | None:
        """Remove a job whose attempt and ranges have all ended; return its verdict, and the order to resume it without ranges."""
        job = self._jobs.get(request_id)
        if job is None or job.verdict is None or job.under_way:
            return None
        del self._jobs[request_id]
        again = job.undivided and job.verdict["report"] == "died"
        return job.verdict, replace(job.order, devices=0) if again else None

    def cancel(self, request_id: str) -> None:
        """Record that a job must not be resumed."""
        if job := self._jobs.get(request_id):
            job.board, job.undivided = None, False

    def _retry_locked(self, job: _Split, number: int) -> str | None:
        """Schedule a retry of a locked range, which does not count as a try; return its job if it was locked for too long."""
        now = self._clock()
        if now - job.locked.setdefault(number, now) < MAX_LOCKED_SECONDS:
            job.due[number] = now + PAUSE_SECONDS
            return None
        job.board, job.undivided = None, True
        return job.order.request_id

    @staticmethod
    def _give_up_if_lost(job: _Split) -> str | None:
        if job.board is None or job.board.lost is None:
            return None
        job.board, job.undivided = None, True
        return job.order.request_id
