"""One worker as seen by its pool: its orders, their last known state, and its free slots."""

from abc import ABC, abstractmethod
from dataclasses import asdict
from typing import Any

from upres.service.execution.base import VERDICTS, DeviceState, Load, OnReport
from upres.service.execution.order import NUMBERED, Order

# States of a range: in READ, all of its frames were read but not all are upscaled.
MAKES, READ, ENDED = ("makes", "read", "ended")


class WorkerDiedError(Exception):
    """Raised when a worker has ended; it is then restarted."""


class PooledWorker(ABC):
    """A worker of a pool. name: its device's. slots, live_slots: concurrent attempts. ready: whether its models are warm.

    kind: workers of the same kind produce the same bytes. nvenc: whether its GPU encodes, as last reported. unavailable: models
    that it lacks, and why; None before it is ready.
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
        self._started: set[str] = set()  # orders among these that the worker has received
        self._live: set[str] = set()
        self._ranges: dict[str, str] = {}  # state of each: MAKES, READ or ENDED
        self._waits: dict[str, set[str]] = {}  # orders that wait for memory or an encoder → holders

    @abstractmethod
    async def keep(self, on_report: OnReport) -> None:
        """Run the worker until it dies, then report its attempts as died and raise WorkerDiedError."""

    @abstractmethod
    async def _send(self, message: dict[str, Any]) -> None:
        """Send a message; it is lost if the worker is dead."""

    @property
    def state(self) -> DeviceState:
        """The last known state of the device."""
        return DeviceState(self.name, self.ready, len(self._running), self.load)

    @property
    def waits(self) -> list[tuple[str, set[str]]]:
        """Each order that waits for the device's memory or an encoder, with the orders that hold some."""
        return [(name, holding & self._running) for name, holding in self._waits.items()]

    @property
    def room(self) -> int:
        """The number of orders that it can accept now."""
        return self._slots - len(self._running - self._live - self._ranges.keys()) if self.ready else 0

    @property
    def range_count(self) -> int:
        """The number of ranges that it is processing."""
        return sum(stage != ENDED for stage in self._ranges.values())

    @property
    def takes_range(self) -> bool:
        """Whether it can accept another range: all frames of the current one are read, and the one before has ended."""
        return self.ready and self.range_count <= 1 and MAKES not in self._ranges.values()

    @property
    def live_room(self) -> int:
        """The number of live orders that it can accept now."""
        return self._live_slots - len(self._live) if self.ready else 0

    async def run(self, order: Order) -> None:
        """Send an order. If the worker is dead, the order is reported as died, at the latest when the worker restarts."""
        self._running.add(order.request_id)
        if order.live:
            self._live.add(order.request_id)
        if order.range_number is not None:
            self._ranges[order.request_id] = MAKES
        try:
            await self._send({"run": asdict(order)})
        except Exception:  # on any error there is no attempt that uses a slot
            self._forget(order.request_id)
            raise

    async def cancel(self, request_id: str) -> None:
        """Kill an attempt, if it runs here."""
        if request_id in self._running:
            await self._send({"cancel": request_id})

    async def _handle(self, report: dict[str, Any], on_report: OnReport) -> None:
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
            names = report["holding"]  # the orders' names on the device
            self._waits[request_id] = {name.partition(NUMBERED)[0] for name in names}
        else:
            self._waits.pop(request_id, None)

    async def _report_lost(self, on_report: OnReport) -> None:
        for request_id in list(self._running):
            await on_report(request_id, {"report": "died", "worker": True, "started": request_id in self._started})
            self._forget(request_id)

    def _forget(self, request_id: str) -> None:
        self._running.discard(request_id)
        self._started.discard(request_id)
        self._live.discard(request_id)
        self._ranges.pop(request_id, None)
        self._waits.pop(request_id, None)
        for holding in self._waits.values():
            holding.discard(request_id)
