"""A job on several devices of this machine: planned, made range by range, and merged; or as one range, which it then says."""

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
from .devices import Crew, Device, Here
from .folder import Ranges
from .merger import Wait
from .process import Beside, Companion, Setup
from .split import RangesLostError, plan_of, run_split

POLL_SECONDS = 0.1  # between two looks for segments of ranges that are being made


def run_on(
    companions: Sequence[Companion | Sequence[Model]],
    reader: Reader,
    job: Job,
    log: FolderLog,
    progress: Progress,
    tick: Callable[[], None] = lambda: None,
) -> Generator[Fragment]:
    """Upscale an open source into a log, as `run`, with the job's own models and on companions: to the same log.

    Where the source or the job cannot be split, or ranges do not fit each other, it is made here alone; a warning says why.
    companions: processes, each with a device of its own; or models in this process, on other devices than the job's.
    tick: called after every fragment, and while one is waited for. Raises SettingsError where those are other models.
    """
    ranges = Ranges(log.folder, {name: value for name, value in log.header.items() if name != "version"})
    devices = 1 + len(companions)

    def alone(why: str | None) -> Generator[Fragment]:
        if why is not None:
            progress.warnings.append(f"one device works on it, not {devices}: {why}")
        with ExitStack() as closes:
            unread = reader if reader.fresh else closes.enter_context(reader.another())
            yield from run(unread, job, log, progress, tick)

    @contextmanager
    def makers(wanted: Sequence[int]) -> Iterator[Wait]:
        share = replace(job, encoders=max(1, job.encoders // devices))
        with _crew(companions, reader, share, log, ranges, Board(wanted)) as (crew, wait):

            def waited(number: int) -> None:
                tick()
                wait(number)

            yield waited
            progress.warnings += crew.notes

    if not isinstance(reader.source, str | Path | ImageSequence):
        yield from alone("the source can be read once only")
        return
    planned = plan_of(reader, job, ranges, devices)
    for fragment in run_split(reader, job, log, ranges, planned, makers, alone, progress):
        yield fragment
        tick()


def _with(models: Sequence[Model], job: Job) -> Job:
    """Give a job other models; SettingsError where they would make another result."""
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
    """Have the ranges of a board made by all devices while inside; give them, and what waits for a range."""
    setup = Setup(reader.another, replace(job, models=()), log.folder, ranges.header)
    with ExitStack() as closes:
        devices: list[Device] = [Here(reader.another, job, ranges)]
        for companion in companions:
            if isinstance(companion, Companion):
                devices.append(closes.enter_context(closing(Beside(companion, setup, job.settings()))))
            else:
                devices.append(Here(reader.another, _with(companion, job), ranges))
        crew = closes.enter_context(Crew(devices, board))

        def wait(number: int) -> None:
            board.miss(number)
            if board.lost is not None or (crew.idle and board.left):
                raise RangesLostError(f"ranges of it could not be made ({board.lost or 'no device is left'})")
            board.wait(POLL_SECONDS)

        yield crew, wait
