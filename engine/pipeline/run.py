"""The way of a frame: read, prefilter, enlarge, write. One generator that yields the result's fragments as they are published."""

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from math import prod
from typing import Any

from av import VideoFrame

from upres.engine.color.convert import ToRGB
from upres.engine.core.errors import LogError, SettingsError
from upres.engine.core.frame import Frame, Shape
from upres.engine.core.model import Model, Session, Stoppable
from upres.engine.core.timeline import Repairs, with_durations, with_nominal
from upres.engine.decode import filters
from upres.engine.decode.cut import WHOLE, Cut
from upres.engine.decode.filters import PREFILTERS, SHOT_START
from upres.engine.decode.reader import Reader
from upres.engine.encode import options
from upres.engine.encode.options import Encoder, Encoding
from upres.engine.encode.passthrough import Passthrough
from upres.engine.encode.publisher import Publisher
from upres.engine.encode.video import pieces
from upres.engine.encode.video_track import VideoTrack
from upres.engine.models.chain import enlarged
from upres.engine.segments.model import Fragment, Log

from .stage import ahead

QUEUE_BYTES = 64 << 20  # what may wait between two stages; at least one frame always may
AUDIO_SECONDS = 0.1  # of sound in a fragment where pictures are published one by one
QUEUE_FRAMES = 16  # more of them, however small, would not make any stage wait less


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be done to a source. models: one, or several that run after each other with no encoding between.

    container: libavformat's name of the joined file's format. split: cut at shot boundaries, each shot begun anew.
    Raises SettingsError for an unknown pre-filter.
    """

    models: tuple[Model, ...]
    encoder: Encoder = field(default_factory=Encoder)
    container: str = "mp4"
    prefilters: tuple[str, ...] = ()
    split: bool = False
    cut: Cut = WHOLE
    tonemap: bool = False

    def __post_init__(self) -> None:
        filters.check(self.prefilters)

    @property
    def scale(self) -> int:
        """Output over input."""
        return prod(model.scale for model in self.models)

    @property
    def at_shots(self) -> bool:
        """Whether shots are looked for: when asked, and for models that remember earlier frames."""
        return self.split or any(model.warmup is None for model in self.models)

    def settings(self) -> dict[str, Any]:
        """All that the bytes of the result depend on, apart from the source: what a resumed run must agree with."""
        cut = {"start": str(self.cut.start), "duration": str(self.cut.duration)}
        return {
            "models": [f"{model.name} on {model.report}" for model in self.models],
            "encoder": asdict(self.encoder),
            "container": self.container,
            "prefilters": list(self.prefilters),
            "split": self.split,
            "cut": cut,
            "tonemap": self.tonemap,
        }


@dataclass(slots=True)
class Progress:
    """How far a run has come; filled in while it runs. seconds: busy time of each stage, waiting for others not counted."""

    frames_in: int = 0
    frames_out: int = 0
    frames_resumed: int = 0
    repairs: Repairs = field(default_factory=Repairs)
    warnings: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=lambda: {"read": 0.0, "infer": 0.0, "encode": 0.0})
    shape: Shape | None = None
    encoding: Encoding | None = None

    @contextmanager
    def busy(self, stage: str) -> Iterator[None]:
        """Count the time spent inside."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] += time.perf_counter() - start


def run(
    reader: Reader, job: Job, log: Log, progress: Progress, tick: Callable[[], None] = lambda: None
) -> Generator[Fragment]:
    """Upscale an open source into a log, from where the log ends; yield each fragment once it is published.

    tick: called after every frame that was encoded. Closing the generator stops every stage within one tile.
    """
    shape = after_prefilters(reader.info.shape, job.prefilters)
    larger, encoding = resolved(job, shape)
    progress.shape, progress.encoding, progress.repairs = shape, encoding, reader.repairs
    if job.encoder.live and log.tracks:
        raise LogError("a live log cannot be gone on with: its encoder is gone; begin a new one")
    publisher = Publisher(log)
    track = VideoTrack(publisher, larger.time_base)
    start = track.resume_point(stateless=all(model.warmup == 0 for model in job.models))
    carried = Passthrough(reader, publisher, container=job.container, seconds=_audio_seconds(job.encoder))
    progress.warnings += [*reader.warnings, *carried.warnings, *([encoding.why] if encoding.why else [])]
    if reader.info.interlaced and not any(name.startswith("deinterlace") for name in job.prefilters):
        progress.warnings.append(
            "the source is interlaced, and its combs are enlarged with it; --prefilter deinterlace takes them out"
        )
    pictures = _pictures(reader, job, shape, progress, carried, start)
    sessions: list[Session] = []

    def hurry() -> None:
        for session in tuple(sessions):
            if isinstance(session, Stoppable):
                session.stop()

    with (
        closing(_ahead(pictures, job, shape, "read")) as frames,
        closing(_ahead(enlarged(frames, job.models, progress.busy, sessions), job, larger, "infer", hurry)) as results,
        closing(_unpublished(results, track.complete, start, progress, tick)) as wanted,
        closing(pieces(wanted, encoding, larger, at_shots=job.at_shots)) as written,
    ):
        for piece in written:
            track.push(piece)
            yield from publisher.published()
        carried.finish()
        yield from publisher.published()
    progress.warnings += reader.closing_notes


def _pictures(
    reader: Reader, job: Job, shape: Shape, progress: Progress, carried: Passthrough, start: int
) -> Iterator[Frame]:
    """Decoded, pre-filtered RGB frames from number `start` on."""
    decoded = _counted(reader.frames(carried.push), progress)
    filtered = filters.prefiltered(decoded, reader.info.shape, job.prefilters, shots=job.at_shots)
    durations = with_nominal if job.encoder.live else with_durations
    timed = durations(_on(filtered, shape.time_base), max(1, round(1 / (shape.rate * shape.time_base))))
    to_rgb = ToRGB(reader.info.shape.color, reader.info.orientation)
    for number in range(1 << 62):
        with progress.busy("read"):
            frame = next(timed, None)
            if frame is None:
                return
            pixels = to_rgb(frame) if number >= start else None
        if pixels is not None:
            yield Frame(pixels, frame.pts or 0, frame.duration, SHOT_START in frame.metadata)


def _counted(frames: Iterator[VideoFrame], progress: Progress) -> Iterator[VideoFrame]:
    for frame in frames:
        progress.frames_in += 1
        yield frame


def _on(frames: Iterator[VideoFrame], time_base: Fraction) -> Iterator[VideoFrame]:
    """The same frames with their time in another time base."""
    for frame in frames:
        if frame.time_base and frame.time_base != time_base and frame.pts is not None:
            frame.pts = round(frame.pts * frame.time_base / time_base)
            frame.duration = round(frame.duration * frame.time_base / time_base)
            frame.time_base = time_base
        yield frame


def after_prefilters(shape: Shape, names: Sequence[str]) -> Shape:
    """The shape of frames once the named pre-filters are done with them."""
    rate = prod(PREFILTERS[name].rate for name in names)
    return replace(shape, rate=shape.rate * rate, time_base=shape.time_base / rate)


def resolved(job: Job, shape: Shape) -> tuple[Shape, Encoding]:
    """The enlarged shape of frames of this shape, and how they are encoded; SettingsError where they cannot be."""
    larger = replace(shape, width=shape.width * job.scale, height=shape.height * job.scale)
    wanted = job.encoder.height
    if wanted is not None and wanted > larger.height:
        given = f"--height {wanted} is more than there is: {job.scale} times {shape.height} lines are {larger.height}"
        raise SettingsError(f"{given}; {_taller(wanted, shape.height, job.scale)}")
    return larger, options.resolve(job.encoder, larger)


def _taller(wanted: int, height: int, scale: int) -> str:
    """How a result of at least this height can be had."""
    needed = -(-wanted // height)
    if scale < needed <= 4:
        return f"RealESRGAN_Vid_x4 gives {4 * height}"
    if needed <= 16:
        pair = f"RealESRGAN_Vid_x4,RealESRGAN_Vid_x{2 if needed <= 8 else 4}"
        return f"no model gives more than four times as many; two after each other do: --chain {pair}"
    return f"ask for at most {scale * height}, or leave it out"


def _unpublished(
    frames: Iterator[Frame], known: int, start: int, progress: Progress, tick: Callable[[], None]
) -> Generator[Frame]:
    """Frames without those whose segments are complete: a model that remembers had to see them again."""
    progress.frames_resumed = progress.frames_out = known
    for number, frame in enumerate(frames, start):
        if number < known:
            continue
        with progress.busy("encode"):  # the writer works while this waits for it to ask for more
            yield frame
        progress.frames_out += 1
        tick()


def _audio_seconds(encoder: Encoder) -> float:
    """How long a fragment of sound is: as long as a segment, or short enough not to come long after its pictures."""
    return AUDIO_SECONDS if encoder.fragment == "frame" else encoder.segment_seconds


def _ahead(
    frames: Iterator[Frame], job: Job, shape: Shape, name: str, hurry: Callable[[], None] = lambda: None
) -> Generator[Frame]:
    """A stage run ahead of the next: of a live source by one frame, for what waits comes late."""
    budget = 0 if job.encoder.live else queue_budget(shape)
    return ahead(frames, budget=budget, size=_bytes, name=name, hurry=hurry)


def queue_budget(shape: Shape) -> int:
    """Bytes of frames of this shape that may wait between two stages: of one at least."""
    frame = shape.width * shape.height * 3
    return max(frame, min(QUEUE_BYTES, QUEUE_FRAMES * frame))


def _bytes(frame: Frame) -> int:
    return frame.pixels.nbytes
