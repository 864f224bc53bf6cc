"""Processing of one range: upscales its part of the source into a separate log, which a later run can resume."""

from collections.abc import Callable
from contextlib import closing

from upres.engine.core.errors import LogError, SourceError
from upres.engine.decode.cut import Span
from upres.engine.decode.reader import Reader
from upres.engine.pipeline.frames import Part
from upres.engine.pipeline.options import Job
from upres.engine.pipeline.progress import Progress
from upres.engine.pipeline.run import run_part
from upres.engine.segments.model import Log


class DoubtError(LogError):
    """Raised when decoding a range separately may differ from decoding the whole source. Retrying would not help."""


def make_range(
    reader: Reader,
    job: Job,
    log: Log,
    span: Span,
    progress: Progress,
    tick: Callable[[], None] = lambda: None,
    was_read: Callable[[], None] = lambda: None,
) -> None:
    """Upscale a span of an open source into the range's log, starting where the log ends.

    tick: called with every frame, from any thread. was_read: called once all frames have been read, from any thread.

    Besides the segments, the log gets two notes: the range's first frame, before any segment; and at the end either a summary or
    the reason for doubt. If the decoder repaired or concealed anything, its output depends on where it started. Raises the same
    errors as a run, except for permanent errors of the source, which are noted as doubt.
    """
    try:
        _make(reader, job, log, span, progress, tick, was_read)
    except (DoubtError, SourceError) as error:
        if error.transient:
            raise
        log.note({"doubt": str(error)})


def _make(
    reader: Reader,
    job: Job,
    log: Log,
    span: Span,
    progress: Progress,
    tick: Callable[[], None],
    was_read: Callable[[], None],
) -> None:
    def check() -> None:
        tick()
        if reader.repairs:
            raise DoubtError(f"the source is damaged there ({reader.repairs})")

    part = Part(span, check, was_read)
    if span.after is not None:
        reader.start_at(span.after)

    def encoded() -> None:
        _note_start(log, part)
        tick()

    with closing(run_part(reader, job, log, part, progress, encoded)) as fragments:
        for _ in fragments:
            pass
    _note_start(log, part)
    log.note({"made": {"ends": part.ends, "warnings": progress.warnings, "seconds": progress.seconds}})


def _note_start(log: Log, part: Part) -> None:
    """Note a range's first frame, once. Raises DoubtError if an earlier run of the range started with another frame."""
    begins = None if part.begins is None else list(part.begins)
    noted = next((note for note in log.extras if "begins" in note), None)
    if noted is None:
        log.note({"begins": begins})
    elif noted["begins"] != begins:
        raise DoubtError("it begins with another frame than before: the source, or its decoder, has changed")
