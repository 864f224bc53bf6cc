"""The frames of a source on their way into the models: decoded, pre-filtered, counted, and in RGB."""

from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import count

from av import VideoFrame

from upres.engine.color.convert import ToRGB
from upres.engine.core.frame import Frame, Shape
from upres.engine.core.timeline import with_durations, with_nominal
from upres.engine.decode import filters
from upres.engine.decode.filters import SHOT_START
from upres.engine.decode.reader import OnPacket, Reader

from .options import Job
from .progress import Progress
from .stage import Stage, queue_budget


def rgb_frames(
    reader: Reader,
    job: Job,
    shape: Shape,
    progress: Progress,
    *,
    first: int = 0,
    on_packet: OnPacket = lambda packet: None,
    keep: Callable[[VideoFrame], None] = lambda frame: None,
) -> Iterator[Frame]:
    """Decode, pre-filter and convert to RGB the frames from number `first` on; other tracks' packets go their own way.

    shape: of pre-filtered frames. keep: called with each of them as it was decoded.
    """
    decoded = _counted(reader.frames(on_packet), progress)
    if job.prefilters or job.at_shots:
        decoded = _filtered(decoded, reader, job, shape)
    to_rgb = ToRGB(shape.color, reader.info.orientation, deep=shape.deep)
    for number in count():
        with progress.busy("read"):
            frame = next(decoded, None)
            if frame is None:
                return
            pixels = to_rgb(frame) if number >= first else None
        if pixels is not None:
            keep(frame)
            yield Frame(pixels, frame.pts or 0, frame.duration, SHOT_START in frame.metadata)


def ahead(
    frames: Iterator[Frame], shape: Shape, name: str, stop: Callable[[], None], *, live: bool = False
) -> Stage[Frame]:
    """Run a stage ahead of the next: of a live source by one frame, for what waits comes late. shape: of its frames."""
    budget = 0 if live else queue_budget(shape)
    return Stage(frames, budget=budget, size=lambda frame: frame.pixels.nbytes, name=name, stop=stop)


def combs(reader: Reader, job: Job) -> list[str]:
    """Warn of an interlaced source that nobody deinterlaces."""
    if not reader.info.interlaced or any(name.startswith("deinterlace") for name in job.prefilters):
        return []
    return ["the source is interlaced, and its combs are upscaled with it; the pre-filter deinterlace takes them out"]


def _filtered(frames: Iterator[VideoFrame], reader: Reader, job: Job, shape: Shape) -> Iterator[VideoFrame]:
    """Run frames through the job's pre-filters, which leave durations to be derived from the times of what comes out."""
    filtered = filters.prefiltered(frames, reader.info.shape, job.prefilters, shots=job.at_shots)
    durations = with_nominal if job.encoder.live else with_durations
    return durations(_on(filtered, shape.time_base), max(1, round(1 / (shape.rate * shape.time_base))))


def _counted(frames: Iterator[VideoFrame], progress: Progress) -> Iterator[VideoFrame]:
    for frame in frames:
        progress.frames_in += 1
        yield frame


def _on(frames: Iterator[VideoFrame], time_base: Fraction) -> Iterator[VideoFrame]:
    """Convert the times of frames to another time base."""
    for frame in frames:
        if frame.time_base and frame.time_base != time_base and frame.pts is not None:
            frame.pts = round(frame.pts * frame.time_base / time_base)
            frame.duration = round(frame.duration * frame.time_base / time_base)
            frame.time_base = time_base
        yield frame
