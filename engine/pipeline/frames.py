"""Frames of a source on their way to the models: decoded, pre-filtered, counted and converted to the models' input format."""

import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import count

from av import VideoFrame

from upres.engine.color.convert import ToRGB
from upres.engine.color.planes import ToPlanes
from upres.engine.core.frame import Frame, Pixels, Shape
from upres.engine.core.timeline import with_durations, with_nominal
from upres.engine.decode import filters
from upres.engine.decode.cut import Span
from upres.engine.decode.filters import SHOT_START
from upres.engine.decode.reader import OnPacket, Reader

from .options import Job
from .progress import Progress
from .stage import Stage, queue_budget


@dataclass(slots=True)
class Part:
    """Span of a source to process, and marks of how it begins and ends.

    check: called for every decoded frame, including those before the span, and at the end; raises an error to end the run.
    was_read: called once the last frame of the span was read; earlier frames may still be being upscaled.
    begins, ends: marks of the first frame in the span and of the first frame after it: the timestamp in ticks, and a checksum of
    the pixels as the models receive them. None if there is no such frame.
    """

    span: Span
    check: Callable[[], None] = lambda: None
    was_read: Callable[[], None] = lambda: None
    begins: tuple[int, int] | None = None
    ends: tuple[int, int] | None = None

    def within(
        self, frames: Iterator[VideoFrame], time_base: Fraction, pixels: Callable[[VideoFrame], Pixels]
    ) -> Iterator[VideoFrame]:
        """Yield the frames that lie in the span. pixels: converts a frame to the models' input."""
        start = None if self.span.start is None else self.span.start / time_base
        end = None if self.span.end is None else self.span.end / time_base
        for frame in frames:
            self.check()
            pts = frame.pts or 0
            if start is not None and pts < start:
                continue
            is_after = end is not None and pts >= end
            if self.begins is None:
                self.begins = _mark(pts, pixels(frame))
            if is_after:
                self.ends = _mark(pts, pixels(frame))
                break
            yield frame
        else:
            self.check()
        self.was_read()


def _mark(pts: int, pixels: Pixels) -> tuple[int, int]:
    return pts, zlib.crc32(pixels.tobytes())


def model_frames(
    reader: Reader,
    job: Job,
    shape: Shape,
    progress: Progress,
    *,
    first: int = 0,
    part: Part | None = None,
    on_packet: OnPacket = lambda packet: None,
    keep: Callable[[VideoFrame], None] = lambda frame: None,
) -> Iterator[Frame]:
    """Decode and pre-filter the frames from number `first` on, and convert them to RGB or planes.

    shape: of pre-filtered frames. part: restricts the source to one span, in which numbering starts. on_packet: receives the
    packets of other tracks. keep: called with each yielded frame as it was decoded.
    """
    decoded = _counted(reader.frames(on_packet), progress)
    if job.prefilters or job.at_shots:
        decoded = _filtered(decoded, reader, job, shape)
    upright, color = reader.info.orientation, shape.color
    converted = ToPlanes(color) if job.planar else ToRGB(color, upright, deep=shape.deep)
    if part is not None:
        decoded = part.within(decoded, shape.time_base, converted)
    clock = time.thread_time if job.encoder.live else time.perf_counter
    for number in count():
        with progress.busy("read", clock):
            frame = next(decoded, None)
            if frame is None:
                return
            if job.encoder.live:
                progress.note_decoded(frame.pts or 0)
            pixels = converted(frame) if number >= first else None
        if pixels is not None:
            keep(frame)
            yield Frame(pixels, frame.pts or 0, frame.duration, SHOT_START in frame.metadata)


def ahead(
    frames: Iterator[Frame], shape: Shape, name: str, stop: Callable[[], None], *, live: bool = False
) -> Stage[Frame]:
    """Return a stage that runs ahead of the next one; for a live source by at most one frame, to keep latency low."""
    budget = 0 if live else queue_budget(shape)
    return Stage(frames, budget=budget, size=lambda frame: frame.pixels.nbytes, name=name, stop=stop)


def interlacing_warnings(reader: Reader, job: Job) -> list[str]:
    """Return a warning if the source is interlaced and no pre-filter deinterlaces it."""
    if not reader.info.interlaced or any(name.startswith("deinterlace") for name in job.prefilters):
        return []
    return ["the source is interlaced, and its combing is upscaled with it; the pre-filter deinterlace removes it"]


def _filtered(frames: Iterator[VideoFrame], reader: Reader, job: Job, shape: Shape) -> Iterator[VideoFrame]:
    """Run frames through the job's pre-filters, and derive durations from the timestamps of the filtered frames."""
    filtered = filters.prefiltered(frames, reader.info.shape, job.prefilters, shots=job.at_shots)
    durations = with_nominal if job.encoder.live else with_durations
    return durations(_rescaled(filtered, shape.time_base), max(1, round(1 / (shape.rate * shape.time_base))))


def _counted(frames: Iterator[VideoFrame], progress: Progress) -> Iterator[VideoFrame]:
    for frame in frames:
        progress.frames_in += 1
        yield frame


def _rescaled(frames: Iterator[VideoFrame], time_base: Fraction) -> Iterator[VideoFrame]:
    """Convert the timestamps and durations of frames to another time base."""
    for frame in frames:
        if frame.time_base and frame.time_base != time_base and frame.pts is not None:
            frame.pts = round(frame.pts * frame.time_base / time_base)
            frame.duration = round(frame.duration * frame.time_base / time_base)
            frame.time_base = time_base
        yield frame
