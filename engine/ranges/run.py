"""A job on several devices of this machine: planned, made range by range, and merged; or as one range, which it then says."""

from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, closing
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
from .merger import SeamError, merged
from .plan import Plan, plan
from .process import Beside, Companion, Setup

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
    tick: called after every fragment. Raises SettingsError where those are other models.
    """
    ranges = Ranges(log.folder, {name: value for name, value in log.header.items() if name != "version"})
    planned = _planned(reader, job, ranges, 1 + len(companions))
    if len(planned.spans) > 1:
        job = replace(job, encoders=max(1, job.encoders // (1 + len(companions))))
        try:
            yield from _together(companions, reader, job, log, ranges, planned, progress, tick)
            return
        except SeamError as error:
            planned = Plan(why=str(error))
            ranges.keep(planned)
    if planned.why is not None:
        progress.warnings.append(f"one device works on it, not {1 + len(companions)}: {planned.why}")
    with ExitStack() as closes:
        yield from run(reader if reader.fresh else closes.enter_context(reader.another()), job, log, progress, tick)


def _with(models: Sequence[Model], job: Job) -> Job:
    """Give a job other models; SettingsError where they would make another result."""
    other = replace(job, models=tuple(models))
    if other.settings() != job.settings():
        names = (", ".join(f"{model.name} on {model.report}" for model in each.models) for each in (other, job))
        raise SettingsError("ranges of one job are made by the same models, not by {} and {}".format(*names))
    return other


def _planned(reader: Reader, job: Job, ranges: Ranges, devices: int) -> Plan:
    """Return the plan that the job has, or make one and keep it."""
    if (kept := ranges.plan) is not None:
        return kept
    named = isinstance(reader.source, str | Path | ImageSequence)
    made = plan(reader, job, devices) if named else Plan(why="the source can be read once only")
    ranges.keep(made)
    return made


def _together(
    companions: Sequence[Companion | Sequence[Model]],
    reader: Reader,
    job: Job,
    log: FolderLog,
    ranges: Ranges,
    planned: Plan,
    progress: Progress,
    tick: Callable[[], None],
) -> Generator[Fragment]:
    setup = Setup(reader.another, replace(job, models=()), log.folder, ranges.header)
    board = Board(number for number in range(len(planned.spans)) if not ranges.is_made(number))
    with ExitStack() as closes:
        devices: list[Device] = [Here(reader.another, job, ranges)]
        for companion in companions:
            if isinstance(companion, Companion):
                devices.append(closes.enter_context(closing(Beside(companion, setup, job.settings()))))
            else:
                devices.append(Here(reader.another, _with(companion, job), ranges))
        crew = closes.enter_context(Crew(devices, board))

        def wait() -> None:
            if board.lost is not None or (crew.idle and board.left):
                raise SeamError(f"ranges of it could not be made ({board.lost or 'no device is left'})")
            board.wait(POLL_SECONDS)

        for fragment in closes.enter_context(closing(merged(reader, job, log, ranges, progress, wait))):
            yield fragment
            tick()
        progress.warnings += crew.notes
