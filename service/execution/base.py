"""The executor protocol, as the jobs use it. An executor is one module that implements this protocol.

It is registered as an entry point of the group `upres.executors`, whose value is a function from ExecutorOptions to an
Executor. The server creates the executor that `UPRES_EXECUTOR` names.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol

from upres.engine.core.errors import SettingsError

from .order import Order

GROUP = "upres.executors"
UPDATES = ("progress", "fragment", "waiting", "memory", "stages", "range")  # reports that do not end an attempt
# Reports that end an attempt; `made` ends an attempt at a range.
VERDICTS = ("joined", "made", "failed", "late", "locked", "died")


@dataclass(frozen=True, slots=True)
class Load:
    """Current load of a device's worker, and totals since it started.

    busy_seconds: time that its models have worked. frames: frames produced, by `telemetry.labels.model_label`. memory: bytes that
    attempts have reserved, out of memory_limit. memory_waiting: attempts that wait for memory. encoders: sessions of the GPU's
    encoder in use, out of encoder_limit.
    """

    busy_seconds: float = 0.0
    frames: dict[str, int] = field(default_factory=dict)
    memory: int = 0
    memory_limit: int = 0
    memory_waiting: int = 0
    encoders: int = 0
    encoder_limit: int = 0


@dataclass(frozen=True, slots=True)
class DeviceState:
    """Last known state of a device. name: unique. attempts: number of attempts running on it."""

    name: str
    ready: bool
    attempts: int
    load: Load


@dataclass(frozen=True, slots=True)
class Shortage:
    """A shortage of one device's memory or encoders.

    waiting: jobs whose attempts on the device wait for it. holding: other jobs, whose attempts there hold some. A job that holds
    none is not listed, because ending it would free nothing.
    """

    waiting: frozenset[str]
    holding: frozenset[str]


Report = dict[str, Any]
OnReport = Callable[[str, Report], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class ExecutorOptions:
    """The operator's options, which apply to any executor.

    workers: number of worker processes, one per device; None starts one for each GPU that the runtime may use, or else one.
    slots: attempts that share a device, so that an attempt that waits for its source does not idle the device.
    live_slots: the same for live jobs, which never wait for other jobs to end. models: `module:function` that loads a model.
    runtime, quality: the runtime that executes the models, and the numeric quality it must keep. memory_bytes: limit for all
    attempts together; None uses most of what is free. preload: MODEL@WxH, models to warm up for frames of that size before the
    executor reports room. nvenc: encode on the GPU if NVENC is available. folder: the parent of all job folders. term: the term of
    the server's lease if several servers share that folder; the highest term belongs to the active server. private: no other server
    continues what is in that folder, so that work for a server that has died is useless. on_failing: callback for a required part
    that keeps failing, with its name and last error; the server then exits, for a supervisor to restart it.
    """

    workers: int | None = None
    slots: int = 4
    live_slots: int = 1
    models: str = "upres.service.execution.worker:load"
    runtime: str = "auto"
    quality: str = "high"
    memory_bytes: int | None = None
    preload: tuple[str, ...] = ()
    nvenc: bool = False
    folder: Path | None = None
    term: int = 0
    private: bool = False
    on_failing: Callable[[str, Exception], None] = lambda name, error: None


class Executor(Protocol):
    """Accepts orders while it has room. For each order it sends any number of updates, then exactly one verdict.

    Several devices may process an order in ranges (`execution/ranges`); only reports about the whole order are passed on then.
    The verdict is sent once nothing of the order is running any more.

    Reports are JSON objects whose `report` is the kind. Updates: `progress` (percent, state), `fragment` (one was published),
    `waiting` (for its source), `memory` (`shortages` has changed), and for orders with a traceparent `stages` (as in
    `report_shape`) and `range` (an attempt at a range has ended: number, outcome, device, its duration in seconds, its stages).
    Verdicts: `joined` (totals: the complete result is in the job's folder), `failed` (error: an UpresError's class name, message),
    `late` (it exceeded its time limit, or made no progress for `stalled_seconds`), `locked` (nothing was done because another
    attempt, `holder`, has the folder; retry later), `died` (not a verdict on the job, which may be retried; `worker`: the attempt
    died together with its worker, which another job may have caused; `started`: whether the worker had received the order). One
    report has an empty job id: `ready`, sent when room becomes available.
    """

    @property
    def unavailable(self) -> dict[str, str] | None:
        """Map from the slugs of models that cannot run here to the reason; None before models were loaded."""
        ...

    async def start(self, on_report: OnReport) -> None:
        """Start to accept orders."""
        ...

    @property
    def ready(self) -> bool:
        """Whether the models are loaded and warm."""
        ...

    @property
    def room(self) -> int:
        """The number of orders that can be accepted now, not counting live ones."""
        ...

    @property
    def live_room(self) -> int:
        """The number of live orders that can be accepted now."""
        ...

    @property
    def devices(self) -> Sequence[DeviceState]:
        """The devices that attempts run on; used for metrics only."""
        ...

    @property
    def shortages(self) -> Sequence[Shortage]:
        """The devices whose memory or encoders do not suffice for the attempts that are on them now."""
        ...

    async def run(self, order: Order) -> None:
        """Accept an order; it counts against the room from the call on, before the first await."""
        ...

    async def cancel(self, request_id: str) -> None:
        """Cancel an order, which is then reported as `died`. Does nothing if there is no such order."""
        ...

    async def pause(self) -> None:
        """Release devices that another server may need, until `resume`; live jobs keep theirs. Safe to call at any time."""
        ...

    async def resume(self) -> None:
        """Use the released devices again."""
        ...

    async def stop(self) -> None:
        """Stop everything; no report is sent after this."""
        ...


def make_executor(name: str, options: ExecutorOptions) -> Executor:
    """Create the executor that is registered under a name; SettingsError if there is none."""
    registered = entry_points(group=GROUP)
    if name not in registered.names:
        names = ", ".join(sorted(registered.names))
        raise SettingsError(f"there is no executor {name!r}; there are {names}")
    try:
        executor: Executor = registered[name].load()(options)
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"the executor {name!r} needs a package that is not installed ({error}); for `ray`: pip install 'upres[ray]'"
        ) from error
    return executor
