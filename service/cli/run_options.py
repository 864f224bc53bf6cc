"""The options of `upres IN OUT` in groups: each field is an option, each method what its group is for."""

from collections.abc import Collection
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Any, ClassVar, cast

import typer

from upres.engine.core.errors import SettingsError
from upres.engine.core.model import Model
from upres.engine.decode.cut import Cut
from upres.engine.decode.filters import PREFILTERS
from upres.engine.encode.options import SEGMENT_SECONDS, Codec, Encoder
from upres.engine.models import registry
from upres.engine.models.catalog import slug_of
from upres.engine.models.per_frame import PerFrameModel
from upres.engine.runtime import registry as runtimes

from .duration import exactly

STDOUT_CONTAINERS = ("mp4", "mov", "mkv")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOptions:
    """Which models run, and how."""

    PANEL: ClassVar = "Model"

    model: Annotated[str, typer.Option("--model", "-m", help="A model or network; see `upres models`.")] = (
        "RealESRGAN_Vid_x4"
    )
    chain: Annotated[str | None, typer.Option(help="Models one after the other, A,B; instead of --model.")] = None
    scale: Annotated[int | None, typer.Option(help="2, 3 or 4, for a model that offers several.")] = None
    content: Annotated[str, typer.Option(help="auto, photo or animation: which network inside a model.")] = "auto"
    quality: Annotated[
        str, typer.Option(help="exact: float32. high: bfloat16 where the CPU has it, at 50 dB or more.")
    ] = "high"
    runtime: Annotated[
        str,
        typer.Option(
            help=f"{', '.join(runtimes.names())}; cuda, tensorrt …: an NVIDIA GPU. auto: the fastest that `upres tune` found."
        ),
    ] = "auto"

    def load(self, resumed: Collection[str] = ()) -> tuple[list[Model], list[str]]:
        """Load the models; gives them, and what a user should know of the choice. resumed: as in `registry.load`."""
        names = [name.strip() for name in (self.chain or self.model).split(",")]
        loaded = [self._load(name, alone=len(names) == 1, resumed=resumed) for name in names]
        models, notes = [model for model, _ in loaded], [note for _, note in loaded if note]
        notes += [model.why for model in models if isinstance(model, PerFrameModel) and model.why]
        if self.quality == "high" and (exact := [model.report for model in models if "fp32" in model.report]):
            why = "ONNX Runtime computes in float32 only" if "ONNX" in exact[0] else "this CPU has no bfloat16"
            notes.append(f"{why}, so high is exact ({exact[0]})")
        if [model.scale for model in models].count(2) > 1:
            notes.append("x2 after x2 upscales artefacts twice; x4 is the better way to 4")
        return models, notes

    def _load(self, name: str, *, alone: bool, resumed: Collection[str]) -> tuple[Any, str | None]:
        """Load one model. In a chain, the scale is for those that offer several."""
        scale = self.scale if alone or len(slug_of(name).scales) > 1 else None
        how = {"content": self.content, "quality": self.quality, "runtime": self.runtime}
        return registry.load(name, **how, scale=scale, resumed=resumed)


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodingOptions:
    """How the result is encoded."""

    PANEL: ClassVar = "Encoding"

    codec: Annotated[str, typer.Option(help="auto, h264 or hevc.")] = "auto"
    lossless: Annotated[
        bool, typer.Option("--lossless", help="Keep exactly what the network computed, as RGB H.264; needs .mkv.")
    ] = False
    crf: Annotated[int, typer.Option(help="Quality of the encoding: lower is better and larger.")] = 18
    preset: Annotated[str, typer.Option(help="Speed of the encoding: ultrafast … veryslow.")] = "fast"
    segment: Annotated[
        float | None,
        typer.Option(help="Seconds of video in a segment of the log; by default 2, or what takes about 15 s of work."),
    ] = None
    height: Annotated[int | None, typer.Option(help="Resample the result down to this height, e.g. 1080.")] = None
    container: Annotated[
        str, typer.Option(help="For stdout, which gets the result while it is made: mkv, mp4 or mov.")
    ] = "mkv"

    def encoder(self) -> Encoder:
        """Make the engine's options; raises SettingsError."""
        if self.codec not in ("auto", "h264", "hevc"):
            raise SettingsError(f"codec must be auto, h264 or hevc, got {self.codec!r}; exact pixels are --lossless")
        codec = "lossless" if self.lossless else cast(Codec, self.codec)
        segment = SEGMENT_SECONDS if self.segment is None else self.segment
        return Encoder(codec, self.crf, self.preset, segment, self.height)

    def suffixes(self) -> tuple[str, str]:
        """Give the suffix of results in a folder, and that of a result on stdout; raises SettingsError."""
        if self.container not in STDOUT_CONTAINERS:
            raise SettingsError(f"--container must be {', '.join(STDOUT_CONTAINERS)}, got {self.container!r}")
        return ".mkv" if self.lossless else ".mp4", f".{self.container}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceOptions:
    """What of the source is upscaled, and what is done to it before."""

    PANEL: ClassVar = "Source"

    start: Annotated[str, typer.Option(metavar="TIME", help="Start there: seconds, or \\[h:]m:s.")] = "0"
    duration: Annotated[
        str | None, typer.Option(metavar="TIME", help="Upscale only so much: try three seconds first.")
    ] = None
    at: Annotated[
        str | None,
        typer.Option("--still", metavar="TIME", help="One frame of that time, before and after, to OUT.png."),
    ] = None
    prefilter: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help=f"{', '.join(PREFILTERS)}; repeatable.")
    ] = None
    split: Annotated[
        bool, typer.Option("--split", help="Cut at shot boundaries; each shot starts from a fresh state.")
    ] = False
    tonemap: Annotated[bool, typer.Option("--tonemap", help="Bring high dynamic range down to SDR.")] = False

    def still(self) -> Fraction | None:
        """Give the time of the one frame that is wanted, in seconds, if any; raises SettingsError."""
        return None if self.at is None else exactly("--still", self.at)

    def settings(self) -> dict[str, Any]:
        """Give the fields of the engine's Job that are about the source; raises SettingsError."""
        duration = None if self.duration is None else exactly("--duration", self.duration)
        cut = Cut(exactly("--start", self.start), duration)
        return {"prefilters": tuple(self.prefilter or ()), "split": self.split, "cut": cut, "tonemap": self.tonemap}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What happens with results that are there already, and how the run is reported."""

    PANEL: ClassVar = "Run"

    yes: Annotated[bool, typer.Option("--yes", help="Start even what takes very long on this machine.")] = False
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue where an interrupted run of the same command stopped.")
    ] = False
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an output that exists.")] = False
    skip_existing: Annotated[bool, typer.Option("--skip-existing", help="Leave out inputs whose output exists.")] = (
        False
    )
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line instead of text.")] = False
