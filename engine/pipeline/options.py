"""What is to be done to a source, and the sizes that follow from it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from math import prod
from typing import Any

from upres.engine.core.errors import ModelError, SettingsError
from upres.engine.core.frame import Shape
from upres.engine.core.model import Deepening, Model, Planar
from upres.engine.decode import filters
from upres.engine.decode.cut import WHOLE, Cut
from upres.engine.decode.filters import PREFILTERS
from upres.engine.decode.info import Info
from upres.engine.decode.reader import Reader
from upres.engine.encode import options
from upres.engine.encode.encoder import OpenEncoder, SegmentEncoder
from upres.engine.encode.options import Encoder, Encoding

PLANAR_FORMATS = ("yuv420p", "nv12")  # of an encoder, that planes become without a loss
PLANAR_STEP = 4  # that the height of frames in planes has to be a multiple of, for PyAV to take them


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be done to a source. models: one, or several that run after each other with no encoding between.

    container: libavformat's name of the joined file's format. streamed: it is written while it is made.
    split: cut at shot boundaries; no model remembers across them. encoders: segments that are encoded at once, to the same bytes.
    keep_up: of a live source that is faster than the models, frames that are late are not upscaled.
    as_recorded: with that, the source is known to be live, also where much of it comes at once.
    open_encoder: makes what encodes, where that is not in this process.
    Raises SettingsError for an unknown pre-filter, and for a container that does not take the codec.
    """

    models: tuple[Model, ...]
    encoder: Encoder = field(default_factory=Encoder)
    container: str = "mp4"
    prefilters: tuple[str, ...] = ()
    split: bool = False
    cut: Cut = WHOLE
    tonemap: bool = False
    streamed: bool = False
    encoders: int = 1
    keep_up: bool = False
    as_recorded: bool = False
    open_encoder: OpenEncoder = SegmentEncoder

    def __post_init__(self) -> None:
        filters.check(self.prefilters)
        containers = self.encoder.facts.containers
        if self.container not in containers:
            raise SettingsError(f"{self.encoder.codec} goes into {' or '.join(containers)}, not into {self.container}")

    @property
    def scale(self) -> int:
        """Multiply the scales of the models: output over input."""
        return prod(model.scale for model in self.models)

    @property
    def stateless(self) -> bool:
        """Tell whether every frame is upscaled by itself, so that a run can begin with any."""
        return all(model.warmup == 0 for model in self.models)

    @property
    def planar(self) -> bool:
        """Tell whether frames go to the model and come from it in planes of 4:2:0."""
        return any(isinstance(model, Planar) and model.planar for model in self.models)

    @property
    def on_cpu(self) -> bool:
        """Tell whether the models compute where encoders do, by their reports."""
        return all("CPU" in model.report.split() for model in self.models)

    @property
    def at_shots(self) -> bool:
        """Tell whether shots are looked for: when asked, and for models that remember earlier frames."""
        return self.split or any(model.warmup is None for model in self.models)

    @property
    def eight_bits(self) -> str | None:
        """Say what of it holds 8 bits a channel and no more; None where nothing does."""
        found = [f"the pre-filter {name} works in 8" for name in self.prefilters if not PREFILTERS[name].deep]
        return eight_bits(self.models) or next(iter(found), self.encoder.eight_bits)

    def settings(self) -> dict[str, Any]:
        """List all that the bytes of the result depend on, apart from the source: what a resumed run must agree with."""
        cut = {"start": str(self.cut.start), "duration": str(self.cut.duration)}
        return {
            "models": [f"{model.name} on {model.report}" for model in self.models],
            "graphs": [model.digest for model in self.models],
            "encoder": {
                **asdict(self.encoder),
                "crf": self.encoder.quality,
                "options": [list(option) for option in self.encoder.options],
            },
            "container": self.container,
            "prefilters": list(self.prefilters),
            "split": self.split,
            "cut": cut,
            "tonemap": self.tonemap,
        }


def eight_bits(models: Sequence[Model]) -> str | None:
    """Say which of some models takes 8 bits a channel and no more; None where none does."""
    return next((f"{model.name} takes 8" for model in models if not isinstance(model, Deepening)), None)


def fitted(job: Job, reader: Reader, *, images: bool = False) -> Job:
    """Return a job with models for what an open source has: frames of 16 bits where it has more than 8, and all that follows can.

    Otherwise the reader gives 8 bits, in planes where the model converts colors itself. images: these are made, of RGB.
    Raises SourceError for high dynamic range that neither can be kept nor is tone-mapped.
    """
    if reader.info.shape.deep and job.eight_bits is not None:
        reader.limit(job.eight_bits)
    if not reader.info.shape.deep:
        return job if images else _on_planes(job, reader.info)
    try:
        models = tuple(model.deep() if isinstance(model, Deepening) else model for model in job.models)
    except ModelError as error:  # as where TensorRT, which takes 8 bits, is the only runtime on a GPU
        reader.limit(f"the models take 8 here ({error})")
        return job
    return replace(job, models=models)


def _on_planes(job: Job, info: Info) -> Job:
    """Return a job whose model takes a source's planes and gives those of the result, where nothing else changes them."""
    model, shape = job.models[0], info.shape
    if info.layout is None or len(job.models) > 1 or job.prefilters or not isinstance(model, Planar):
        return job
    upscaled, encoding = resolved(job, shape)
    same = (upscaled.width, upscaled.height, shape.color) == (encoding.width, encoding.height, encoding.color)
    if not same or encoding.pixel_format not in PLANAR_FORMATS or upscaled.height % PLANAR_STEP:
        return job
    planar = model.on_planes(info.layout, shape.width, shape.height)
    return job if planar is None else replace(job, models=(planar,))


def after_prefilters(shape: Shape, names: Sequence[str]) -> Shape:
    """Derive the shape of frames that have passed the named pre-filters."""
    rate = prod(PREFILTERS[name].rate for name in names)
    return replace(shape, rate=shape.rate * rate, time_base=shape.time_base / rate)


def resolved(job: Job, shape: Shape) -> tuple[Shape, Encoding]:
    """Derive the upscaled shape of frames of this shape, and how they are encoded; SettingsError where they cannot be."""
    upscaled = replace(shape, width=shape.width * job.scale, height=shape.height * job.scale)
    if job.encoder.height is not None:
        check_height(job.encoder.height, shape.height, job.scale)
    return upscaled, options.resolve(job.encoder, upscaled)


def check_height(wanted: int, height: int, scale: int) -> None:
    """Raise SettingsError where a result is to be taller than frames of this height become."""
    if wanted > height * scale:
        raise SettingsError(
            f"`height` {wanted} is more than there is: {scale} times {height} pixels are {height * scale}; "
            f"{_taller(wanted, height, scale)}"
        )


def _taller(wanted: int, height: int, scale: int) -> str:
    """Say how a result of at least this height can be had."""
    needed = -(-wanted // height)
    if scale < needed <= 4:
        return f"RealESRGAN_Vid_x4 gives {4 * height}"
    if needed <= 16:
        pair = f"RealESRGAN_Vid_x4,RealESRGAN_Vid_x{2 if needed <= 8 else 4}"
        return f"no model gives more than four times as many; two after each other do: `models` {pair}"
    return f"ask for at most {scale * height}, or leave it out"
