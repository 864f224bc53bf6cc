"""One job in ranges where it can be, and alone where not: for any maker of ranges."""

from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager

from upres.engine.core.errors import UpresError
from upres.engine.decode.reader import Reader
from upres.engine.pipeline.options import Job
from upres.engine.pipeline.progress import Progress
from upres.engine.segments.folder import FolderLog
from upres.engine.segments.model import Fragment

from .folder import Ranges
from .merger import SeamError, Wait, is_published, merged
from .plan import Plan, plan

Makers = Callable[[Sequence[int]], AbstractContextManager[Wait]]
"""Has ranges made while its `with` is entered, by their numbers. What it gives raises RangesLostError where they cannot be."""
Alone = Callable[[str | None], Generator[Fragment]]
"""Makes the log from where it ends, as one; the reason why not in ranges, None where there is nothing to divide."""


class RangesLostError(UpresError):
    """Raised when ranges of a job cannot be made now, which says nothing of its source: a later run may make them."""


def plan_of(reader: Reader, job: Job, ranges: Ranges, devices: int) -> Plan:
    """Give the plan that was kept for a job; else plan its ranges for so many devices. Changes nothing on disk."""
    return ranges.plan or plan(reader, job, devices)


def run_split(
    reader: Reader,
    job: Job,
    log: FolderLog,
    ranges: Ranges,
    planned: Plan,
    makers: Makers,
    alone: Alone,
    progress: Progress,
) -> Generator[Fragment]:
    """Upscale an open source into a log, in the ranges that were planned, or alone; to the same log.

    planned: as `plan_of` gives it. It is kept for all runs of a job; a source that contradicts it is made alone from then on.
    `alone` reads the source from its beginning, and cannot use a reader that is not fresh.
    """
    if ranges.plan is None:
        ranges.keep(planned)
    if len(planned.spans) > 1:
        spans = enumerate(planned.spans)
        wanted = [number for number, span in spans if not is_published(span, log) and not ranges.is_made(number)]
        try:
            with makers(wanted) as wait:
                yield from merged(reader, job, log, ranges, progress, wait)
            return
        except SeamError as error:
            planned = Plan(why=str(error))
            ranges.keep(planned)
        except RangesLostError as error:
            planned = Plan(why=str(error))
    yield from alone(planned.why)
