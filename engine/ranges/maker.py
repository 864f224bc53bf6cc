"""One range made: its part of the source, upscaled into a log of its own, which another run of it resumes."""

from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict

from upres.engine.core.errors import LogError
from upres.engine.decode.cut import Span
from upres.engine.decode.reader import Reader
from upres.engine.pipeline.frames import Part
from upres.engine.pipeline.options import Job
from upres.engine.pipeline.progress import Progress
from upres.engine.pipeline.run import run_part
from upres.engine.segments.model import Log


def make_range(
    reader: Reader, job: Job, log: Log, span: Span, progress: Progress, tick: Callable[[], None] = lambda: None
) -> None:
    """Upscale a span of an open source into the range's log, from where that ends. tick: called after every frame.

    Besides its segments the log gets two notes: the range's first frame, before any segment, and at its end what there is to
    know of it. Raises SourceError where the source cannot be sought in, and as a run does.
    """
    before = Counter[str]()  # what was repaired in frames that lie before the range
    part = Part(span, lambda: before.update(asdict(reader.repairs)))
    if span.after is not None:
        reader.start_at(span.after)

    def encoded() -> None:
        _note_start(log, part)
        tick()

    with closing(run_part(reader, job, log, part, progress, encoded)) as fragments:
        for _ in fragments:
            pass
    _note_start(log, part)
    log.note(
        {
            "made": {
                "ends": part.ends,
                "warnings": progress.warnings,
                "seconds": progress.seconds,
                "repairs": {name: count - before[name] for name, count in asdict(reader.repairs).items()},
            }
        }
    )


def _note_start(log: Log, part: Part) -> None:
    """Note a range's first frame, once. Raises LogError where an earlier run of it began with another one."""
    begins = None if part.begins is None else list(part.begins)
    noted = next((note for note in log.extras if "begins" in note), None)
    if noted is None:
        log.note({"begins": begins})
    elif noted["begins"] != begins:
        raise LogError("the range begins with another frame than before: the source, or its decoder, has changed")
