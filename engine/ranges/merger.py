"""Merging of ranges into the job's log, in order, each once it is complete and the next range is known to continue it."""

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from typing import Any

from upres.engine.core.errors import LogError
from upres.engine.decode.cut import Span
from upres.engine.decode.reader import Reader
from upres.engine.encode.fragment import renumbered
from upres.engine.encode.publisher import Publisher
from upres.engine.pipeline.options import Job
from upres.engine.pipeline.progress import Progress
from upres.engine.pipeline.run import start_other_tracks
from upres.engine.segments.model import DAMAGED, Fragment, Log
from upres.engine.segments.tail import Tail

from .folder import Ranges
from .plan import Plan

Wait = Callable[[int], None]
"""Called with a range's number while it is incomplete; returns after a while, or raises an error to end the merge."""


class SeamError(LogError):
    """Raised when a range may differ from what one run of the whole would make. Earlier ranges are published, this is not."""


class Merger:
    """Merges the ranges of a job into its log, each once it is complete and the next starts with the frame that ends it.

    So no doubtful segment is published, and a run of the whole can resume after the last verified seam.
    """

    def __init__(self, ranges: Ranges, publisher: Publisher, progress: Progress, wait: Wait) -> None:
        self._ranges, self._publisher, self._progress, self._wait = ranges, publisher, progress, wait
        self._tails: dict[int, Tail] = {}
        self._fresh: dict[int, list[Fragment]] = {}  # by range, fragments that are not published yet
        fragments = publisher.log.fragments("video")
        self._count, self._frames = len(fragments), sum(fragment.frames for fragment in fragments)
        self._end = fragments[-1].pts + fragments[-1].duration if fragments else None
        progress.frames_resumed = progress.frames_in = progress.frames_out = self._frames

    def run(self, plan: Plan) -> Iterator[Fraction]:
        """Publish the segments of all ranges; yield the time in seconds at which each segment ends.

        Raises SeamError if a range cannot be trusted: its source is damaged, it does not continue the previous range, or it was
        made with other settings or by another build.
        """
        ends: list[Any] = []  # the frame that ends the previous range, if known
        for number, span in enumerate(plan.spans):
            with _seam_errors(number):
                if not is_published(span, self._publisher.log):
                    yield from self._merge(number, ends, last=number + 1 == len(plan.spans))
                ends = self._read_end(number)
            self._ranges.empty(number)
            del self._tails[number]

    def _merge(self, number: int, ends: list[Any], *, last: bool) -> Iterator[Fraction]:
        self._check_start(number, ends)
        final_note = self._wait_for_note(number, "made")
        if not last:
            with _seam_errors(number + 1):
                self._check_start(number + 1, [final_note["ends"]])
        for fragment in self._fresh.pop(number):
            yield from self._publish(self._tails[number], fragment)

    def _check_start(self, number: int, ends: list[Any]) -> None:
        begins = self._wait_for_note(number, "begins")
        self._ranges.check(number)
        if ends not in ([], [begins]):
            raise LogError("it does not begin with the frame that ends the range before it")

    def _wait_for_note(self, number: int, name: str) -> Any:  # noqa: ANN401 - JSON
        """Wait for a note of a range. Raises LogError if the range is in doubt, KeyError if it ends without the note."""
        while True:
            tail = self._read_news(number)
            for note in tail.notes:
                if "doubt" in note:
                    raise LogError(str(note["doubt"]))
                if name in note or "made" in note:
                    return note[name]
            self._wait(number)

    def _read_news(self, number: int) -> Tail:
        """Read new entries of a range's log."""
        tail = self._tails.setdefault(number, self._ranges.tail(number))
        fresh = self._fresh.setdefault(number, [])
        fresh += (item for item in tail.news() if isinstance(item, Fragment) and item.pts >= (self._end or 0))
        front = self._fresh[min(self._fresh)]
        self._progress.frames_in = self._progress.frames_out = self._frames + sum(each.frames for each in front)
        return tail

    def _publish(self, tail: Tail, fragment: Fragment) -> Iterator[Fraction]:
        if self._end is not None and fragment.pts != self._end:
            raise LogError("it does not begin where the log ends")
        track = tail.tracks[fragment.track]
        body = renumbered(tail.read(fragment), self._count - fragment.segment, track.container)
        self._publisher.publish(track, replace(fragment, segment=self._count), body)
        self._count, self._end = self._count + 1, fragment.pts + fragment.duration
        self._frames += fragment.frames
        yield (self._end + track.start) * track.time_base

    def _read_end(self, number: int) -> list[Any]:
        """Read a range's final note, if it was completed; return the frame that ends it, in a list."""
        self._fresh.pop(number, None)
        tail = self._tails.setdefault(number, self._ranges.tail(number))
        tail.news()
        final_note = next((note["made"] for note in tail.notes if "made" in note), None)
        if final_note is None:  # it was published by a run of the whole instead
            return []
        progress = self._progress
        progress.warnings += [str(warning) for warning in final_note["warnings"] if warning not in progress.warnings]
        for stage, seconds in final_note["seconds"].items():
            progress.seconds[stage] = progress.seconds.get(stage, 0.0) + float(seconds)
        return [final_note["ends"]]


@contextmanager
def _seam_errors(number: int) -> Iterator[None]:
    """Convert errors of a range's log to a SeamError that names the range."""
    try:
        yield
    except SeamError:
        raise
    except (LogError, *DAMAGED) as error:
        raise SeamError(f"range {number}: {error}") from error


def is_published(span: Span, log: Log) -> bool:
    """Report whether a job's log contains all of a range."""
    track, fragments = log.tracks.get("video"), log.fragments("video")
    if track is None or not fragments or span.end is None:
        return False
    return (fragments[-1].pts + fragments[-1].duration + track.start) * track.time_base >= span.end


def merged(reader: Reader, job: Job, log: Log, ranges: Ranges, progress: Progress, wait: Wait) -> Generator[Fragment]:
    """Build the log of a job from its ranges, which others process, and the source's other tracks. The log equals that of `run`.

    Decodes no video. Raises SeamError if a range is unusable, and any error of `wait`; a run of the whole can then resume the
    log.
    """
    publisher = Publisher(log)
    others = start_other_tracks(reader, job, publisher, progress)
    seconds = reader.carry(others.push)
    reached = Fraction(-1)
    for second in Merger(ranges, publisher, progress, wait).run(ranges.plan or Plan()):
        while reached < second and (next_ := next(seconds, None)) is not None:
            reached = next_
        yield from publisher.published()
    for _ in seconds:
        pass
    others.finish()
    yield from publisher.published()
    progress.warnings += [*others.notes, *reader.closing_notes]
