"""A job on several devices of this machine: planned, processed in ranges and merged, or processed as a whole with a warning."""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path

from upres.engine.core.errors import SettingsError
from upres.engine.core.model import Model
from upres.engine.decode.numbered import ImageSequence
from upres.engine.decode.reader import Reader
from upres.engine.pipeline.options import Job
from upres.engine.pipeline.progress import Progress
from upres.engine.pipeline.run import run
from upres.engine.segments.folder import FolderLog
from upres.engine.segments.model import Fragment

from .board import Board
from .devices import Crew, Device, LocalDevice
from .folder import Ranges
from .merger import Wait
from .process import Companion, ProcessDevice, Setup
from .split import RangesLostError, plan_of, run_split

POLL_SECONDS = 0.1  # interval between checks for new segments of ranges in progress


def run_on(
    companions: Sequence[Companion | Sequence[Model]],
    reader: Reader,
    job: Job,
    log: FolderLog,
    progress: Progress,
    tick: Callable[[], None] = lambda: None,
) -> Generator[Fragment]:
    """Upscale an open source into a log like `run`, on the job's own models and on companions; the log is the same.

    If the source or job cannot be divided, or ranges do not fit together, it is processed on this device only, with a warning.
    companions: processes, each with its own device; or models in this process, on other devices than the job's.
    tick: called after every fragment, and while waiting for one. Raises SettingsError if the models differ from the job's.
    """
    ranges = Ranges(log.folder, {name: value for name, value in log.header.items() if name != "version"})
    devices = 1 + len(companions)

    def run_whole(why: str | None) -> Generator[Fragment]:
        if why is not None:
            progress.warnings.append(f"one device works on it, not {devices}: {why}")
        with ExitStack() as closes:
            unread = reader if reader.fresh else closes.enter_context(reader.another())
            yield from run(unread, job, log, progress, tick)

    @contextmanager
    def makers(numbers: Sequence[int]) -> Iterator[Wait]:
        share = replace(job, encoders=max(1, job.encoders // devices))
        with _crew(companions, reader, share, log, ranges, Board(numbers)) as (crew, wait):

            def wait_and_tick(number: int) -> None:
                tick()
                wait(number)

            yield wait_and_tick
            progress.warnings += crew.notes

    if not isinstance(reader.source, str | Path | ImageSequence):
        yield from run_whole("the source can be read once only")
        return
    planned = plan_of(reader, job, ranges, devices)
    for fragment in run_split(reader, job, log, ranges, planned, makers, run_whole, progress):
        yield fragment
        tick()


def _with_models(models: Sequence[Model], job: Job) -> Job:
    """Return the job with other models. Raises SettingsError if they would yield another result."""
    other = replace(job, models=tuple(models))
    if other.settings() != job.settings():
        names = (", ".join(f"{model.name} on {model.report}" for model in each.models) for each in (other, job))
        raise SettingsError("ranges of one job are made by the same models, not by {} and {}".format(*names))
    return other


@contextmanager
def _crew(
    companions: Sequence[Companion | Sequence[Model]],
    reader: Reader,
    job: Job,
    log: FolderLog,
    ranges: Ranges,
    board: Board,
) -> Iterator[tuple[Crew, Wait]]:
    """Let all devices process the ranges of a board in the `with` block; yield them and a function that waits for a range."""
    setup = Setup(reader.another, replace(job, models=()), log.folder, ranges.header)
    with ExitStack() as closes:
        devices: list[Device] = [LocalDevice(reader.another, job, ranges)]
        for companion in companions:
            if isinstance(companion, Companion):
                devices.append(closes.enter_context(closing(ProcessDevice(companion, setup, job.settings()))))
            else:
                devices.append(LocalDevice(reader.another, _with_models(companion, job), ranges))
        crew = closes.enter_context(Crew(devices, board))

        def wait(number: int) -> None:
            board.miss(number)
            if board.lost is not None or (crew.idle and board.has_unassigned):
                raise RangesLostError(f"some of its ranges could not be made ({board.lost or 'no device is left'})")
            board.wait(POLL_SECONDS)

        yield crew, wait
