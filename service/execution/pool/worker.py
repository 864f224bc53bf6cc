"""One worker as its pool sees it: what it has been asked for, what it says of that, and how much more it can take."""

from abc import ABC, abstractmethod
from dataclasses import asdict
from typing import Any

from upres.service.execution.base import VERDICTS, DeviceState, Load, OnReport
from upres.service.execution.order import NUMBERED, Order

MAKES, READ, ENDED = (
    "makes",
    "read",
    "ended",
)  # how far a range is: READ where all of its frames were read, of which some are left


class WorkerDiedError(Exception):
    """Raised when a worker has ended; it is restarted."""


class PooledWorker(ABC):
    """name: of its device. slots, live_slots: attempts that it runs at once. ready: whether its models are warm.

    kind: workers of one kind make the same bytes. nvenc: whether its GPU encodes, as it said last. unavailable: models that it has
    not got, and why; None before it is ready.
    """

    def __init__(self, slots: int, live_slots: int, name: str = "") -> None:
        self.name = name
        self.load = Load()
        self._slots = slots
        self._live_slots = live_slots
        self.ready = False
        self.kind = ""
        self.nvenc = False
        self.unavailable: dict[str, str] | None = None
        self._running: set[str] = set()
        self._started: set[str] = set()  # of these, orders that have reached it
        self._live: set[str] = set()
        self._ranges: dict[str, str] = {}  # how far each is: MAKES, READ or ENDED
        self._short: dict[str, set[str]] = {}  # that wait for memory, or an encoder, and those who hold some

    @abstractmethod
    async def keep(self, on_report: OnReport) -> None:
        """Run the worker until it dies; WorkerDiedError then. Its attempts are reported as died."""

    @abstractmethod
    async def _send(self, message: dict[str, Any]) -> None:
        """Send a message; one that meets a dead worker is lost."""

    @property
    def state(self) -> DeviceState:
        """Say what it was heard of last."""
        return DeviceState(self.name, self.ready, len(self._running), self.load)

    @property
    def short(self) -> list[tuple[str, set[str]]]:
        """Name each order that waits for the device's memory, or an encoder, with those that hold some."""
        return [(name, holding & self._running) for name, holding in self._short.items()]

    @property
    def room(self) -> int:
        """Orders that it can take now."""
        return self._slots - len(self._running - self._live - self._ranges.keys()) if self.ready else 0

    @property
    def range_count(self) -> int:
        """Count the ranges that it makes."""
        return sum(stage != ENDED for stage in self._ranges.values())

    @property
    def takes_range(self) -> bool:
        """Whether it can take a range of a job, beside its other orders: once it has read the one before, and ended that before."""
        return self.ready and self.range_count <= 1 and MAKES not in self._ranges.values()

    @property
    def live_room(self) -> int:
        """Likewise of live jobs."""
        return self._live_slots - len(self._live) if self.ready else 0

    async def run(self, order: Order) -> None:
        """Send an order; one that meets a dead worker is reported as died, at the next start at the latest."""
        self._running.add(order.request_id)
        if order.live:
            self._live.add(order.request_id)
        if order.range_number is not None:
            self._ranges[order.request_id] = MAKES
        try:
            await self._send({"run": asdict(order)})
        except Exception:  # whatever it is, there is no attempt that holds a slot
            self._forget(order.request_id)
            raise

    async def cancel(self, request_id: str) -> None:
        """Kill an attempt, if it runs here."""
        if request_id in self._running:
            await self._send({"cancel": request_id})

    async def _take(self, report: dict[str, Any], on_report: OnReport) -> None:
        request_id = report.pop("request_id", None)
        if report["report"] == "ready":
            self.ready, self.unavailable, self.kind = True, report["unavailable"], report.get("kind", "")
            self.nvenc = bool(report.get("nvenc"))
            await on_report("", report)
        elif report["report"] == "beat":
            self.load = Load(**report.get("load", {}))
        elif request_id in self._running:
            ends = report["report"] in VERDICTS
            self._started.add(request_id)
            if request_id in self._ranges and (ends or report["report"] == "read"):
                self._ranges[request_id] = ENDED if ends else READ
            if report["report"] == "memory":
                self._note_wait(request_id, report)
            await on_report(request_id, {**report, "device": self.name} if ends and self.name else report)
            if ends:
                self._forget(request_id)

    def _note_wait(self, request_id: str, report: dict[str, Any]) -> None:
        if report["waits"]:
            names = report["holding"]  # that orders have on the device
            self._short[request_id] = {name.partition(NUMBERED)[0] for name in names}
        else:
            self._short.pop(request_id, None)

    async def _report_lost(self, on_report: OnReport) -> None:
        for request_id in list(self._running):
            await on_report(request_id, {"report": "died", "worker": True, "started": request_id in self._started})
            self._forget(request_id)

    def _forget(self, request_id: str) -> None:
        self._running.discard(request_id)
        self._started.discard(request_id)
        self._live.discard(request_id)
        self._ranges.pop(request_id, None)
        self._short.pop(request_id, None)
        for holding in self._short.values():
            holding.discard(request_id)
