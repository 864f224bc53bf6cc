"""A worker on a node as seen by its pool: polls the device's actor for reports until it ends or is unreachable."""

import asyncio
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from upres.engine.core.text import counted
from upres.service.domain import job_logging
from upres.service.domain.waiting import run_to_completion
from upres.service.execution.base import OnReport, Report
from upres.service.execution.pool.worker import PooledWorker, WorkerDiedError

from .device import LEASE_SECONDS, Device
from .nodes import NAMESPACE, Place
from .shared_folder import Mark

START_SECONDS = 120.0  # for an actor's process to start and import everything
ANSWER_SECONDS = LEASE_SECONDS  # for any reply of an actor
DETACH_SECONDS = 5.0
MAX_REPORTS = 100  # queued here to be handled; the device keeps the rest, the latest of each kind


@dataclass(frozen=True, slots=True)
class Setup:
    """Settings shared by all devices of a server. arguments, engine: of the workers. memory_bytes: per node.

    allowed: set while the server may attach to devices.
    """

    mark: Mark
    arguments: Sequence[str]
    engine: Mapping[str, str]
    memory_bytes: int | None
    allowed: asyncio.Event

    @property
    def server(self) -> str:
        """The server's name, which is new at each start."""
        return self.mark.path

    def name(self, place: Place) -> str:
        """Return the name of a device's actor, which servers with the same settings share."""
        settings = repr((*self.arguments, *sorted(self.engine.items()), self.memory_bytes, place.count))
        return f"device {place.number} on {place.node.id} {sha256(settings.encode()).hexdigest()[:12]}"


class NodeWorker(PooledWorker):
    """A worker on the device `place` of a node."""

    def __init__(self, place: Place, setup: Setup, slots: int, live_slots: int) -> None:
        super().__init__(slots, live_slots, f"{place.node.id[:8]}/{place.number}")
        self.place = place
        self._setup = setup
        self._outgoing: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._incoming: asyncio.Queue[Report | None] = asyncio.Queue()  # None marks the end
        self._attached: Any = None  # the actor, while attached
        self._unconfirmed = asyncio.Event()  # set if the actor should be detached from but did not confirm it
        self._source = zlib.crc32(setup.name(place).encode())

    async def keep(self, on_report: OnReport) -> None:
        """Use the actor until it ends or stops answering, then report its attempts as died and raise WorkerDiedError."""
        await self._report_lost(on_report)
        self._outgoing, self._incoming = asyncio.Queue(), asyncio.Queue()
        await self._setup.allowed.wait()
        self._unconfirmed.clear()
        handling = asyncio.create_task(self._handle_all(on_report))
        try:
            why = await self._use(handling)
            self._incoming.put_nowait(None)
            await asyncio.wait([handling])  # reports received before the end count
        finally:
            handling.cancel()
            await asyncio.wait([handling])
        if error := handling.exception():
            why = f"{why}; its reports cannot be handled ({type(error).__name__}: {error})"
        lost = len(self._running)
        await self._report_lost(on_report)
        raise WorkerDiedError(f"the worker on {self.place.node.name} is gone with {counted(lost, 'attempt')}: {why}")

    async def _handle_all(self, on_report: OnReport) -> None:
        """Handle reports one by one. This may block for long, e.g. while the database is unavailable; polling pauses meanwhile."""
        while (report := await self._incoming.get()) is not None:
            if self._attached or report["report"] != "ready":
                await self._handle(report, on_report)

    async def _use(self, handling: asyncio.Task[None]) -> str:
        """Use the actor for as long as reports are handled; return why that ended."""
        actor = None
        try:
            async with asyncio.timeout(START_SECONDS):
                actor = await asyncio.to_thread(self._actor)
                why: str | None = await actor.attach.remote(self._setup.server, version("upres"), self._setup.mark)
            if why is None and not self._setup.allowed.is_set():  # `leave` was called before the actor was attached
                why = "the server has released its devices in the meantime"
            elif why is None:
                self._attached = actor
                why = await self._serve(actor, handling)
        except TimeoutError:
            if self._attached is None:
                why = f"it did not start within {START_SECONDS:g} s; its node may have no free resources for it"
            else:
                why = f"it has not replied for {ANSWER_SECONDS:g} s; its node may be gone"
            if actor is not None:
                await asyncio.to_thread(ray.kill, actor)
                actor = None
        except Exception as error:  # any error, e.g. Ray's: the actor's orders are lost, which must be reported
            why = f"{type(error).__name__}: {error}"
        finally:  # attempts that are counted as died here must also end on the node
            self.ready, self._attached = False, None
            await run_to_completion(self._detach(actor))
        return why

    def _actor(self) -> Any:  # noqa: ANN401 - Ray's handles have no types of their methods
        """Return the device's actor, which another server may have created."""
        setup, place = self._setup, self.place
        options = {
            "name": setup.name(place),
            "namespace": NAMESPACE,
            "lifetime": "detached",
            "get_if_exists": True,
            "num_cpus": place.cpus,
            "num_gpus": place.gpus,
            "scheduling_strategy": NodeAffinitySchedulingStrategy(place.node.id, soft=False),
        }
        remote = ray.remote(Device).options(**options)
        return remote.remote(setup.arguments, setup.engine, place.count, setup.memory_bytes)

    async def _serve(self, actor: Any, handling: asyncio.Task[None]) -> str:  # noqa: ANN401
        """Poll for reports and send messages until the actor ends, is detached, or its reports cannot be handled; return why."""
        parts = self._poll(actor), self._post(actor), self._unconfirmed.wait()
        tasks: list[asyncio.Task[Any]] = [asyncio.create_task(part) for part in parts]
        try:
            await asyncio.wait([*tasks, handling], return_when=asyncio.FIRST_COMPLETED)
            if self._unconfirmed.is_set():
                return "it was detached but did not confirm that"
            ended = next((task for task in tasks if task.done()), None)
            return "its reports are not handled" if ended is None else str(ended.result())
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _poll(self, actor: Any) -> str:  # noqa: ANN401
        """Poll for reports until the actor ends; return why there are no more."""
        while True:
            async with asyncio.timeout(ANSWER_SECONDS):
                most = max(0, MAX_REPORTS - self._incoming.qsize())
                answer = await actor.reports.remote(self._setup.server, most)
            if answer is None:
                return "its process has ended, or it was detached"
            reports, lines = answer
            for line in lines:
                job_logging.log_forwarded(line, source=self._source)
            for report in reports:
                self._incoming.put_nowait(report)

    async def _post(self, actor: Any) -> None:  # noqa: ANN401
        """Send messages in order, indefinitely."""
        while True:
            messages = [await self._outgoing.get()]
            while not self._outgoing.empty():
                messages.append(self._outgoing.get_nowait())
            async with asyncio.timeout(ANSWER_SECONDS):
                await actor.post.remote(self._setup.server, messages)

    async def _send(self, message: dict[str, Any]) -> None:
        self._outgoing.put_nowait(message)

    async def leave(self) -> None:
        """Detach from the device unless it runs a live job; `keep` attaches to it again.

        If the actor does not confirm it, polling stops, so that the actor ends its attempts when the lease expires.
        """
        if not (self._live or await self._detach(self._attached)):
            self._unconfirmed.set()

    async def _detach(self, actor: Any) -> bool:  # noqa: ANN401
        """Detach from the actor, which remains for other servers and this one's next start; return whether it confirmed that.

        If it did not, it ends its attempts when its lease expires, because it is no longer polled.
        """
        try:
            async with asyncio.timeout(DETACH_SECONDS):
                if actor is not None:
                    await actor.detach.remote(self._setup.server)
            return True
        except Exception:  # any error, e.g. Ray's
            return False
