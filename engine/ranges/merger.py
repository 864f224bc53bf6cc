"""The log of a whole job made from those of its ranges, in order, each segment as soon as it and all before it are there."""

from collections.abc import Callable, Generator, Iterator
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
from upres.engine.pipeline.run import carried
from upres.engine.segments.model import Fragment, Log
from upres.engine.segments.tail import Tail

from .folder import Ranges
from .plan import Plan


class SeamError(LogError):
    """Raised when a range does not continue the one before it: seeking in the source gave other frames than reading it does."""


class Merger:
    """Merges the ranges of a job into its log.

    wait: called while the next segment is not there; it returns after a while, or raises what ends the job.
    """

    def __init__(self, ranges: Ranges, publisher: Publisher, progress: Progress, wait: Callable[[], None]) -> None:
        self._ranges, self._publisher, self._progress, self._wait = ranges, publisher, progress, wait
        fragments = publisher.log.fragments("video")
        self._count, self._frames = len(fragments), sum(fragment.frames for fragment in fragments)
        self._end = fragments[-1].pts + fragments[-1].duration if fragments else None
        progress.frames_resumed = progress.frames_in = progress.frames_out = self._frames

    def run(self, plan: Plan) -> Iterator[Fraction]:
        """Publish the segments of all ranges; yield the second of the frames' times at which each ends.

        Raises SeamError where ranges do not fit each other, or were made with other settings or another build.
        """
        before: list[Any] = []  # how the range before ends, in a list once that is known
        for number, span in enumerate(plan.spans):
            tail = self._ranges.tail(number)
            try:
                if not self._is_published(span):
                    yield from self._segments(number, tail, before)
                before = self._ended(tail)
            except (KeyError, TypeError, ValueError, LogError) as error:
                raise SeamError(f"range {number}: {error}") from error
            self._ranges.empty(number)

    def _is_published(self, span: Span) -> bool:
        """Tell whether the log has all of a range."""
        track = self._publisher.log.tracks.get("video")
        if track is None or self._end is None or span.end is None:
            return False
        return (self._end + track.start) * track.time_base >= span.end

    def _segments(self, number: int, tail: Tail, before: list[Any]) -> Generator[Fraction]:
        """Publish the segments of one range that the log does not have, as they come, to the range's end."""
        waiting: list[Fragment] = []
        checked = False
        while True:
            waiting += [item for item in tail.news() if isinstance(item, Fragment)]
            noted = [note["begins"] for note in tail.notes if "begins" in note]
            if noted and not checked:
                self._ranges.check(number)
                if before not in ([], noted):
                    raise SeamError("it does not begin with the frame that ends the one before")
                checked = True
            if checked:
                for fragment in waiting:
                    yield from self._publish(tail, fragment)
                waiting.clear()
                if any("made" in note for note in tail.notes):
                    return
            self._wait()

    def _publish(self, tail: Tail, fragment: Fragment) -> Iterator[Fraction]:
        if self._end is not None and fragment.pts < self._end:
            return
        track = tail.tracks[fragment.track]
        body = renumbered(tail.read(fragment), self._count - fragment.segment, track.container)
        self._publisher.publish(track, replace(fragment, segment=self._count), body)
        self._count, self._end = self._count + 1, fragment.pts + fragment.duration
        self._progress.frames_in = self._progress.frames_out = self._progress.frames_out + fragment.frames
        yield (self._end + track.start) * track.time_base

    def _ended(self, tail: Tail) -> list[Any]:
        """Take what a range says at its end, if it was made; return the frame that ends it, in a list."""
        tail.news()
        made = next((note["made"] for note in tail.notes if "made" in note), None)
        if made is None:  # a run of the whole has published it
            return []
        progress = self._progress
        progress.warnings += [warning for warning in made["warnings"] if warning not in progress.warnings]
        for stage, seconds in made["seconds"].items():
            progress.seconds[stage] = progress.seconds.get(stage, 0.0) + seconds
        for name, count in made["repairs"].items():
            setattr(progress.repairs, name, getattr(progress.repairs, name) + count)
        return [made["ends"]]


def merged(
    reader: Reader, job: Job, log: Log, ranges: Ranges, progress: Progress, wait: Callable[[], None]
) -> Generator[Fragment]:
    """Make the log of a job from its ranges, which others make, and what else its source holds; as `run`, to the same log.

    Decodes no video. wait: as a Merger's. Raises SeamError where ranges cannot be used: a run of the whole then resumes the log.
    """
    publisher = Publisher(log)
    others = carried(reader, job, publisher, progress)
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
