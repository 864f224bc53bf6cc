"""A worker on a node, as its pool sees it: the actor of its device, asked for reports until it ends or cannot be reached."""

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

START_SECONDS = 120.0  # for an actor's process, which imports all that is needed
ANSWER_SECONDS = LEASE_SECONDS  # for any answer of an actor's
DETACH_SECONDS = 5.0
MOST_REPORTS = 100  # that wait here for what is done with them; more wait on the device, which needs only the latest


@dataclass(frozen=True, slots=True)
class Setup:
    """What all devices of a server have in common. arguments, engine: of workers. memory_bytes: of a node.

    allowed: set while the server may attach to them.
    """

    mark: Mark
    arguments: Sequence[str]
    engine: Mapping[str, str]
    memory_bytes: int | None
    allowed: asyncio.Event

    @property
    def server(self) -> str:
        """Name the server; it has another name each time that it starts."""
        return self.mark.path

    def name(self, place: Place) -> str:
        """Name the actor of a device: servers with the same settings share it."""
        settings = repr((*self.arguments, *sorted(self.engine.items()), self.memory_bytes, place.count))
        return f"device {place.number} on {place.node.id} {sha256(settings.encode()).hexdigest()[:12]}"


class NodeWorker(PooledWorker):
    """place: where it runs."""

    def __init__(self, place: Place, setup: Setup, slots: int, live_slots: int) -> None:
        super().__init__(slots, live_slots, f"{place.node.id[:8]}/{place.number}")
        self.place = place
        self._setup = setup
        self._outgoing: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._incoming: asyncio.Queue[Report | None] = asyncio.Queue()  # None is the last
        self._attached: Any = None  # the actor
        self._unheard = asyncio.Event()  # set where it is to be left, and has not heard of it
        self._source = zlib.crc32(setup.name(place).encode())

    async def keep(self, on_report: OnReport) -> None:
        """Use the actor until it ends, or does not answer; WorkerDiedError then. Its attempts are reported as died."""
        await self._report_lost(on_report)
        self._outgoing, self._incoming = asyncio.Queue(), asyncio.Queue()
        await self._setup.allowed.wait()
        self._unheard.clear()
        taking = asyncio.create_task(self._take_all(on_report))
        try:
            why = await self._used(taking)
            self._incoming.put_nowait(None)
            await asyncio.wait([taking])  # what has come before the end counts
        finally:
            taking.cancel()
            await asyncio.wait([taking])
        if error := taking.exception():
            why = f"{why}; its reports cannot be taken ({type(error).__name__}: {error})"
        lost = len(self._running)
        await self._report_lost(on_report)
        raise WorkerDiedError(f"the worker on {self.place.node.name} is gone with {counted(lost, 'attempt')}: {why}")

    async def _take_all(self, on_report: OnReport) -> None:
        """Take reports one by one, which may last long, as where the database is away: nobody asks for others meanwhile."""
        while (report := await self._incoming.get()) is not None:
            if self._attached or report["report"] != "ready":
                await self._take(report, on_report)

    async def _used(self, taking: asyncio.Task[None]) -> str:
        """Use the actor, as long as reports are taken; return how that ended."""
        actor = None
        try:
            async with asyncio.timeout(START_SECONDS):
                actor = await asyncio.to_thread(self._actor)
                why: str | None = await actor.attach.remote(self._setup.server, version("upres"), self._setup.mark)
            if why is None and not self._setup.allowed.is_set():  # `leave` has seen nothing to leave
                why = "the server has left its devices meanwhile"
            elif why is None:
                self._attached = actor
                why = await self._served(actor, taking)
        except TimeoutError:
            why = "it does not answer, or its node has no place for it"
            if actor is not None:
                await asyncio.to_thread(ray.kill, actor)
                actor = None
        except Exception as error:  # Ray's, or any: what it was given is lost, which is to be reported
            why = f"{type(error).__name__}: {error}"
        finally:  # however it ended, what is counted as died here must end there
            self.ready, self._attached = False, None
            await run_to_completion(self._detach(actor))
        return why

    def _actor(self) -> Any:  # noqa: ANN401 - Ray's handles have no types of their methods
        """Return the device's actor, which another server may have made."""
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

    async def _served(self, actor: Any, taking: asyncio.Task[None]) -> str:  # noqa: ANN401
        """Ask for reports and send messages until the actor ends, is left, or what was asked for cannot be taken; return why."""
        parts = self._ask(actor), self._post(actor), self._unheard.wait()
        tasks: list[asyncio.Task[Any]] = [asyncio.create_task(part) for part in parts]
        try:
            await asyncio.wait([*tasks, taking], return_when=asyncio.FIRST_COMPLETED)
            if self._unheard.is_set():
                return "it is left without having heard of it"
            ended = next((task for task in tasks if task.done()), None)
            return "it is not listened to" if ended is None else str(ended.result())
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask(self, actor: Any) -> str:  # noqa: ANN401
        """Ask for reports until the actor ends; return why there are no more."""
        while True:
            async with asyncio.timeout(ANSWER_SECONDS):
                most = max(0, MOST_REPORTS - self._incoming.qsize())
                answer = await actor.reports.remote(self._setup.server, most)
            if answer is None:
                return "its process has ended, or it has been left"
            reports, lines = answer
            for line in lines:
                job_logging.log_forwarded(line, source=self._source)
            for report in reports:
                self._incoming.put_nowait(report)

    async def _post(self, actor: Any) -> None:  # noqa: ANN401
        """Send messages in their order, without an end."""
        while True:
            messages = [await self._outgoing.get()]
            while not self._outgoing.empty():
                messages.append(self._outgoing.get_nowait())
            async with asyncio.timeout(ANSWER_SECONDS):
                await actor.post.remote(self._setup.server, messages)

    async def _send(self, message: dict[str, Any]) -> None:
        self._outgoing.put_nowait(message)

    async def leave(self) -> None:
        """Leave the device, unless a live job is there; `keep` attaches to it again.

        One that does not hear of it is asked for no more reports, so that it ends what it does by its lease.
        """
        if not (self._live or await self._detach(self._attached)):
            self._unheard.set()

    async def _detach(self, actor: Any) -> bool:  # noqa: ANN401
        """Leave the actor to other servers, and to this one's next start; tell whether it has heard of it.

        Where it has not, it ends what it does by its lease, once it is asked for no more reports.
        """
        try:
            async with asyncio.timeout(DETACH_SECONDS):
                if actor is not None:
                    await actor.detach.remote(self._setup.server)
            return True
        except Exception:  # Ray's, or any
            return False
