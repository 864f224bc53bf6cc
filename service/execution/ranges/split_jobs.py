"""Jobs whose ranges are made by several workers at once: which range is next, and what becomes of one that was not made.

Only bookkeeping, so that any executor can keep to it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import count

from upres.engine.ranges.board import Board
from upres.service.execution.base import Report
from upres.service.execution.order import Order

SEPARATOR, SERIAL_END = "/", "."


@dataclass(slots=True)
class _Split:
    """A job's order. serial: of the attempt at it. kind: of the workers that may make its ranges.

    board: of the ranges, while they are made. asked: the attempt has said which, once and for all. under_way: names of orders.
    alone: it is to go without ranges. verdict: how the attempt has ended.
    """

    order: Order
    serial: int
    kind: str = ""
    board: Board | None = None
    asked: bool = False
    under_way: set[str] = field(default_factory=set)
    alone: bool = False
    verdict: Report | None = None


class SplitJobs:
    """The jobs under way. The attempt at a job reports which ranges it wants; each is an order of its own, named by `next`."""

    def __init__(self) -> None:
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
            if job.kind == kind and job.board is not None and (number := job.board.take(wait=False)) is not None:
                name = f"{job.order.request_id}{SEPARATOR}{job.serial}{SERIAL_END}{number}"
                job.under_way.add(name)
                return replace(job.order, request_id=name, range_number=number)
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
        return job.verdict, replace(job.order, devices=1) if again else None

    def cancel(self, request_id: str) -> None:
        """Note that a job is not to go on in any way."""
        if job := self._jobs.get(request_id):
            job.board, job.alone = None, False

    @staticmethod
    def _given_up(job: _Split) -> str | None:
        if job.board is None or job.board.lost is None:
            return None
        job.board, job.alone = None, True
        return job.order.request_id
