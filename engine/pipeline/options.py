"""Options of an upscale, and the frame sizes that follow from them."""

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

PLANAR_FORMATS = ("yuv420p", "nv12")  # encoder pixel formats that planes convert to without loss
PLANAR_HEIGHT_MULTIPLE = 4  # PyAV only accepts planar frames whose height is a multiple of this


@dataclass(frozen=True, slots=True)
class Job:
    """Options of an upscale. models: one, or several that run one after another without encoding in between.

    container: libavformat's name of the output format. streamed: the output is written while the upscale runs.
    split: cut at shot boundaries; no model remembers frames across them. encoders: number of segments encoded concurrently; it
    does not affect the resulting bytes. keep_up: drop late frames if a live source is faster than the models.
    nvdec: decode the source on an NVIDIA GPU where possible, see Reader.
    as_recorded: with keep_up, the source is known to be live even if many frames arrive at once.
    open_encoder: opens the segment encoder; pass another one to encode outside this process.
    Raises SettingsError for an unknown pre-filter, and for a container that does not support the codec.
    """

    models: tuple[Model, ...]
    encoder: Encoder = field(default_factory=Encoder)
    container: str = "mp4"
    prefilters: tuple[str, ...] = ()
    split: bool = False
    cut: Cut = WHOLE
    tonemap: bool = False
    nvdec: bool = False
    streamed: bool = False
    encoders: int = 1
    keep_up: bool = False
    as_recorded: bool = False
    open_encoder: OpenEncoder = SegmentEncoder

    def __post_init__(self) -> None:
        filters.check(self.prefilters)
        containers = self.encoder.facts.containers
        if self.container not in containers:
            raise SettingsError(f"{self.encoder.codec} is stored in {' or '.join(containers)}, not in {self.container}")

    @property
    def scale(self) -> int:
        """Ratio of output size to input size: the product of the models' scales."""
        return prod(model.scale for model in self.models)

    @property
    def stateless(self) -> bool:
        """Whether every frame is upscaled independently, so that a run can start at any frame."""
        return all(model.warmup == 0 for model in self.models)

    @property
    def planar(self) -> bool:
        """Whether the model's input and output frames are planar 4:2:0."""
        return any(isinstance(model, Planar) and model.planar for model in self.models)

    @property
    def on_cpu(self) -> bool:
        """Whether all models run on the CPU, as encoders do, according to their reports."""
        return all("CPU" in model.report.split() for model in self.models)

    @property
    def at_shots(self) -> bool:
        """Whether shot detection is needed: if requested, or for models that remember earlier frames."""
        return self.split or any(model.warmup is None for model in self.models)

    @property
    def eight_bits(self) -> str | None:
        """Reason why the job is limited to 8 bits a channel; None if it is not."""
        limits = [f"the pre-filter {name} works in 8" for name in self.prefilters if not PREFILTERS[name].deep]
        return eight_bit_reason(self.models) or next(iter(limits), self.encoder.eight_bits)

    def settings(self) -> dict[str, Any]:
        """Return all settings, apart from the source, that affect the resulting bytes: a resumed run must have the same ones."""
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
            # NVDEC decodes damaged frames, and codecs older than H.264, differently from the CPU.
            **({"nvdec": True} if self.nvdec else {}),
        }


def eight_bit_reason(models: Sequence[Model]) -> str | None:
    """Return the reason why the models are limited to 8 bits a channel; None if they are not."""
    return next((f"{model.name} takes 8" for model in models if not isinstance(model, Deepening)), None)


def fitted(job: Job, reader: Reader, *, images: bool = False) -> Job:
    """Return the job with models adapted to an open source: to 16-bit frames if the source and all later stages support them.

    Otherwise the reader converts to 8 bits, in planes if the model converts colors itself. images: the output is RGB images.
    Raises SourceError for high dynamic range that can neither be kept nor is tone-mapped.
    """
    if reader.info.shape.deep and job.eight_bits is not None:
        reader.limit(job.eight_bits)
    if not reader.info.shape.deep:
        return job if images else _on_planes(job, reader.info)
    try:
        models = tuple(model.deep() if isinstance(model, Deepening) else model for model in job.models)
    except ModelError as error:  # for example if the only runtime on a GPU is TensorRT, which is limited to 8 bits
        reader.limit(f"the models take 8 here ({error})")
        return job
    return replace(job, models=models)


def _on_planes(job: Job, info: Info) -> Job:
    """Return the job with a model that reads and writes planes, if no other step requires RGB; otherwise the same job."""
    model, shape = job.models[0], info.shape
    if info.layout is None or len(job.models) > 1 or job.prefilters or not isinstance(model, Planar):
        return job
    upscaled, encoding = resolved(job, shape)
    unchanged = (upscaled.width, upscaled.height, shape.color) == (encoding.width, encoding.height, encoding.color)
    if not unchanged or encoding.pixel_format not in PLANAR_FORMATS or upscaled.height % PLANAR_HEIGHT_MULTIPLE:
        return job
    planar = model.on_planes(info.layout, shape.width, shape.height)
    return job if planar is None else replace(job, models=(planar,))


def after_prefilters(shape: Shape, names: Sequence[str]) -> Shape:
    """Return the shape of frames after the named pre-filters."""
    rate = prod(PREFILTERS[name].rate for name in names)
    return replace(shape, rate=shape.rate * rate, time_base=shape.time_base / rate)


def resolved(job: Job, shape: Shape) -> tuple[Shape, Encoding]:
    """Return the upscaled shape and the encoding for frames of this shape. Raises SettingsError if they cannot be encoded."""
    upscaled = replace(shape, width=shape.width * job.scale, height=shape.height * job.scale)
    if job.encoder.height is not None:
        check_height(job.encoder.height, shape.height, job.scale)
    return upscaled, options.resolve(job.encoder, upscaled)


def check_height(requested: int, height: int, scale: int) -> None:
    """Raise SettingsError if the requested height exceeds that of the upscaled frames."""
    if requested > height * scale:
        raise SettingsError(
            f"`height` {requested} exceeds the upscaled height: {scale} times {height} pixels is {height * scale}; "
            f"{_height_advice(requested, height, scale)}"
        )


def _height_advice(requested: int, height: int, scale: int) -> str:
    """Return advice on how to reach at least this height."""
    needed = -(-requested // height)
    if scale < needed <= 4:
        return f"RealESRGAN_Vid_x4 gives {4 * height}"
    if needed <= 16:
        pair = f"RealESRGAN_Vid_x4,RealESRGAN_Vid_x{2 if needed <= 8 else 4}"
        return f"a chain of two models gives {height * (8 if needed <= 8 else 16)}: `models` {pair}"
    return f"request at most {scale * height}, or omit it"
