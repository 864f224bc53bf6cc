"""One job processed in ranges if possible and as a whole otherwise, independent of who processes the ranges."""

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
"""Context manager factory: inside, ranges with the given numbers are processed. Its value raises RangesLostError on failure."""
RunWhole = Callable[[str | None], Generator[Fragment]]
"""Processes the job as a whole from where the log ends. Called with the reason for not using ranges, or None."""


class RangesLostError(UpresError):
    """Raised when ranges cannot be processed now for reasons unrelated to the source; a later run may succeed."""


def plan_of(reader: Reader, job: Job, ranges: Ranges, devices: int) -> Plan:
    """Return the plan saved for a job, or plan its ranges for a number of devices. Changes nothing on disk."""
    return ranges.plan or plan(reader, job, devices)


def run_split(
    reader: Reader,
    job: Job,
    log: FolderLog,
    ranges: Ranges,
    planned: Plan,
    makers: Makers,
    run_whole: RunWhole,
    progress: Progress,
) -> Generator[Fragment]:
    """Upscale an open source into a log, in the planned ranges or as a whole; the log is the same.

    planned: from `plan_of`. It is saved for all later runs of the job; if the source contradicts it, they process it as a whole.
    `run_whole` reads the source from its beginning, so it needs a fresh reader.
    """
    if ranges.plan is None:
        ranges.keep(planned)
    if len(planned.spans) > 1:
        spans = enumerate(planned.spans)
        missing = [number for number, span in spans if not is_published(span, log) and not ranges.is_made(number)]
        try:
            with makers(missing) as wait:
                yield from merged(reader, job, log, ranges, progress, wait)
            return
        except SeamError as error:
            planned = Plan(why=str(error))
            ranges.keep(planned)
        except RangesLostError as error:
            planned = Plan(why=str(error))
    yield from run_whole(planned.why)
