"""Where attempts run, as the jobs see it. An executor is one module that keeps this protocol.

It is registered under a name as an entry point of the group `upres.executors`, whose value is a function that takes
ExecutorOptions and returns an Executor; the server makes the one that `UPRES_EXECUTOR` names.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol

from upres.engine.core.errors import SettingsError

from .order import Order

GROUP = "upres.executors"
NEWS = ("progress", "fragment", "waiting", "memory", "stages", "range")  # reports that do not end an attempt
VERDICTS = ("joined", "made", "failed", "late", "locked", "died")  # reports that end an attempt; `made` one at a range


@dataclass(frozen=True, slots=True)
class Load:
    """What a device's worker has to do, and has done since it started.

    busy_seconds: that its models have worked. frames: that they have made, by `telemetry.labels.model_label`. memory: bytes that
    attempts have reserved, of memory_limit; memory_waiting: attempts that wait for some. encoders: sessions of the GPU's encoder in
    use, of encoder_limit.
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
    """A device as it was heard of last. name: no two have the same. attempts: under way on it."""

    name: str
    ready: bool
    attempts: int
    load: Load


@dataclass(frozen=True, slots=True)
class Shortage:
    """Of one device's memory, or encoders: jobs whose attempts there wait for some, and others, whose attempts there hold some.

    No other is named: to end it would give nobody any.
    """

    waiting: frozenset[str]
    holding: frozenset[str]


Report = dict[str, Any]
OnReport = Callable[[str, Report], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class ExecutorOptions:
    """What an operator sets for any executor.

    workers: processes, one a device; None is one for each GPU that the runtime may use, or one.
    slots: attempts that share a device, so that one that waits for its source idles none.
    live_slots: likewise of live jobs, which never wait for others to end. models: `module:function` that loads a model.
    runtime, quality: what runs the models, and how exactly. memory_bytes: that all attempts may take together; None takes
    most of what is free. preload: MODEL@WxH, models that are made ready for frames of such a size before there is room.
    nvenc: a GPU encodes, where NVENC opens. folder: that holds the folders of all jobs. term: of the server's lease, where
    several servers share that folder: the highest is of the one that works.
    on_failing: to be called with the name and last error of a part that keeps failing and without which nothing runs: the
    server ends its process then, for a supervisor to start it again.
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
    on_failing: Callable[[str, Exception], None] = lambda name, error: None


class Executor(Protocol):
    """Takes orders while it has room, and reports on each: any number of news, then exactly one verdict.

    An order may be made in ranges by several devices (`execution/ranges`), of which nothing is reported but what is of the whole.
    Its verdict comes once nothing of it is under way any more.

    Reports are JSON objects whose `report` is the kind. News: `progress` (percent, state), `fragment` (one was published),
    `waiting` (for its source), `memory` (`shortages` has changed),
    and of orders with a traceparent `stages` (as in `report_shape`) and `range` (an attempt at one has ended: number, outcome,
    device, the seconds that it took, its stages).
    Verdicts: `joined` (totals: all is in the job's folder), `failed` (error: an UpresError's class name, message), `late` (it
    used up its time, or made no progress for `stalled_seconds`), `locked` (nothing was done, since another attempt has the
    folder: `holder` says which; to be tried again in a while), `died` (which is no verdict on the job: it may be tried again;
    `worker`: it died with its worker, for which another job may be to blame; `started`: whether its order had reached that). One
    of no job, whose id is empty: `ready`, when there is room that was not there before.
    """

    @property
    def unavailable(self) -> dict[str, str] | None:
        """Slugs that cannot run here, and why; None before models were loaded."""
        ...

    async def start(self, on_report: OnReport) -> None:
        """Begin to take orders."""
        ...

    @property
    def ready(self) -> bool:
        """Whether models are warm."""
        ...

    @property
    def room(self) -> int:
        """How many orders can be taken now, live ones apart."""
        ...

    @property
    def live_room(self) -> int:
        """How many live orders can be taken now."""
        ...

    @property
    def devices(self) -> Sequence[DeviceState]:
        """What attempts run on, for metrics; nothing else depends on it."""
        ...

    @property
    def shortages(self) -> Sequence[Shortage]:
        """Which devices have too little memory, or too few encoders, now for the attempts on them."""
        ...

    async def run(self, order: Order) -> None:
        """Take an order; it counts against the room from the call on, before the first wait."""
        ...

    async def cancel(self, request_id: str) -> None:
        """Stop an order; its report is that it died. Does nothing where there is none."""
        ...

    async def pause(self) -> None:
        """Leave devices that another server may want by now, until `resume`; live jobs keep theirs. Safe to call at any time."""
        ...

    async def resume(self) -> None:
        """Use them again."""
        ...

    async def stop(self) -> None:
        """Stop everything; no report comes after this."""
        ...


def make_executor(name: str, options: ExecutorOptions) -> Executor:
    """Make the executor that is registered under a name; SettingsError where there is none."""
    registered = entry_points(group=GROUP)
    if name not in registered.names:
        names = ", ".join(sorted(registered.names))
        raise SettingsError(f"there is no executor {name!r}; there are {names}")
    try:
        executor: Executor = registered[name].load()(options)
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"the executor {name!r} needs what is not installed ({error}); `ray` comes by: pip install 'upres[ray]'"
        ) from error
    return executor
