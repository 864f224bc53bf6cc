"""Jobs whose ranges are made by several workers at once: which range is next, and what becomes of one that was not made.

Only bookkeeping, so that any executor can keep to it.
"""

from dataclasses import dataclass, field, replace

from upres.engine.ranges.board import Board
from upres.service.execution.base import Report
from upres.service.execution.order import Order

SEPARATOR = "/"


@dataclass(slots=True)
class _Split:
    """A job's order. kind: of the workers that may make its ranges. board: of these, once there are some.

    under_way: names of orders. alone: it is to go without ranges.
    """

    order: Order
    kind: str = ""
    board: Board | None = None
    under_way: set[str] = field(default_factory=set)
    alone: bool = False


class SplitJobs:
    """The jobs under way. The attempt at a job reports how many ranges it has; each is an order of its own, named by `next`."""

    def __init__(self) -> None:
        self._jobs: dict[str, _Split] = {}

    @staticmethod
    def is_range(name: str) -> bool:
        """Tell whether an order's name is that of a range."""
        return SEPARATOR in name

    def start(self, order: Order, kind: str = "") -> None:
        """Note the order of a job that may have ranges, to be made by workers of the kind that plans them."""
        self._jobs[order.request_id] = _Split(order, kind)

    def split(self, request_id: str, count: int) -> set[str]:
        """Take so many ranges of a job; 0: it goes on without. Return the names of orders that are not wanted any more."""
        job = self._jobs.get(request_id)
        if job is None:
            return set()
        if count == 0:
            job.board = None
            return job.under_way
        if job.board is None and not job.alone:
            job.board = Board(range(count))
        return set()

    def next(self, kind: str = "") -> Order | None:
        """Return the order of the next range for a worker of this kind, of the job with the fewest under way; None without one."""
        for job in sorted(self._jobs.values(), key=lambda job: len(job.under_way)):
            if job.kind == kind and job.board is not None and (number := job.board.take(wait=False)) is not None:
                name = f"{job.order.request_id}{SEPARATOR}{number}"
                job.under_way.add(name)
                return replace(job.order, request_id=name, range_number=number)
        return None

    def ended(self, name: str, report: Report) -> str | None:
        """Note how a range's order has ended; return its job where that cannot have ranges: its attempt is to be ended."""
        request_id, _, number = name.partition(SEPARATOR)
        job = self._jobs.get(request_id)
        if job is None:
            return None
        job.under_way.discard(name)
        if job.board is None:
            return None
        if report["report"] == "made":
            job.board.made(int(number))
            return None
        job.board.fail(int(number), RuntimeError(report.get("message", report["report"])))
        if job.board.lost is None:
            return None
        job.board, job.alone = None, True
        return request_id

    def close(self, request_id: str) -> tuple[set[str], Order | None]:
        """Forget a job whose attempt has ended: the names of its orders, and the one by which it goes on alone, if it does."""
        job = self._jobs.pop(request_id, None)
        if job is None:
            return set(), None
        return job.under_way, replace(job.order, devices=1) if job.alone else None

    def cancel(self, request_id: str) -> None:
        """Note that a job is not to go on in any way."""
        if job := self._jobs.get(request_id):
            job.board, job.alone = None, False
