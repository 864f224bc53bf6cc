"""The options of `upres IN OUT` in groups: each field is an option, and methods convert the group to the engine's types."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from upres.engine.core.errors import SettingsError
from upres.engine.decode.filters import PREFILTERS
from upres.engine.encode.codecs import CODECS, PRESETS
from upres.engine.models.catalog import NETWORKS, SHORT, SLUGS
from upres.service.cli.options import parse_scale, parse_time

if TYPE_CHECKING:
    from upres.engine.encode.options import Encoder

MAX_IMAGE_RATE = 1000  # maximum rate of numbered images
CONTAINERS = ("mp4", "mov", "mkv", "webm")
KEPT = frozenset({".mov", ".mkv"})
"""Suffixes of sources that results keep by default."""
NAMES = ("auto", *CODECS, "h265")
"""Names of codecs; h265 is an alias of hevc."""
ALIASES = {"h265": "hevc"} | {facts.library: name for name, facts in CODECS.items()}
"""Aliases of codecs, including FFmpeg's names of their encoders."""
SUFFIXES = {"mp4": ".mp4", "mov": ".mov", "matroska": ".mkv", "webm": ".webm"}
RUNTIMES = ("auto", *sorted(entry.name for entry in entry_points(group="upres.runtimes")))
"""The same list as in `upres.engine.runtime.registry`, which is not imported because it imports NumPy."""


@dataclass(frozen=True, slots=True)
class Suffixes:
    """Suffixes of results that have no name yet. usual: the default. kept: kept from the source. stdout: for standard output."""

    usual: str = ".mp4"
    kept: frozenset[str] = KEPT
    stdout: str = ".mkv"

    def of(self, source: Path) -> str:
        """Return the suffix of a source's result."""
        own = source.suffix.lower()
        return own if own in self.kept else self.usual


def _height(text: str) -> int:
    """Parse a height such as 1080 or 1080p; raises SettingsError."""
    height = text.lower().removesuffix("p")
    if not height.isdecimal():
        raise SettingsError(f"--height must be a number of pixels, such as 1080, got {text!r}")
    return int(height)


def _complete_models(incomplete: str) -> Iterator[str]:
    """Complete the name of a model, or the last name in a list separated by commas."""
    before, comma, last = incomplete.rpartition(",")
    yield from (f"{before}{comma}{name}" for name in (*SHORT, *SLUGS, *NETWORKS) if name.startswith(last))


def _completer(names: Iterable[str]) -> Callable[[str], list[str]]:
    """Return a function that completes one of the given names."""
    return lambda incomplete: [name for name in names if name.startswith(incomplete)]


def scale_option(default: str) -> Any:  # noqa: ANN401 - as typer.Option
    """Return the declaration of --scale. default: how its help describes the value without it."""
    help_text = f"2, 3 or 4 times the width and height; by default {default}."
    return typer.Option("--scale", "-s", metavar="N", parser=parse_scale, help=help_text)


def model_option(default: str) -> Any:  # noqa: ANN401 - as typer.Option
    """Return the declaration of --model, as for `scale_option`."""
    help_text = f"{', '.join(SHORT)}, or another of `upres models`; by default {default}."
    return typer.Option("--model", "-m", help=help_text, autocompletion=_complete_models)


def content_option(help_text: str) -> Any:  # noqa: ANN401 - as typer.Option
    """Return the declaration of --content."""
    return typer.Option(autocompletion=_completer(("auto", "photo", "animation", "live")), help=help_text)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOptions:
    """Choice of models and how they run. Without a model and a scale, the height of each source decides."""

    PANEL: ClassVar = "Model"

    scale: Annotated[int | None, scale_option("4, or 2 from 540p up")] = None
    model: Annotated[str | None, model_option("chosen by the scale")] = None
    chain: Annotated[
        str | None,
        typer.Option(help="Models one after the other, A,B; instead of --model.", autocompletion=_complete_models),
    ] = None
    content: Annotated[str, content_option("auto, photo, animation or live: which network of the model to use.")] = (
        "auto"
    )
    quality: Annotated[
        str,
        typer.Option(
            autocompletion=_completer(("exact", "high", "fast")),
            help="exact: float32. high: bfloat16 if the CPU has it, about 50 dB. fast: int8, about 40 dB on video, less on text.",
        ),
    ] = "high"
    runtime: Annotated[
        str,
        typer.Option(
            autocompletion=_completer(RUNTIMES),
            help=f"{', '.join(RUNTIMES)}; cuda, tensorrt …: on an NVIDIA GPU. auto: the fastest that `upres tune` found.",
        ),
    ] = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodingOptions:
    """Encoding of the result."""

    PANEL: ClassVar = "Encoding"

    codec: Annotated[
        str,
        typer.Option(
            autocompletion=_completer(NAMES),
            help=f"{', '.join(NAMES)}. auto: H.264; HEVC above 4096 pixels per side or 8 bits; VP9 in WebM. ProRes needs MOV "
            "or MKV, FFV1 needs MKV.",
        ),
    ] = "auto"
    lossless: Annotated[
        bool, typer.Option("--lossless", help="Keep the exact pixels of the network, as RGB H.264; needs .mkv.")
    ] = False
    crf: Annotated[
        int | None,
        typer.Option(help="Encoding quality: lower is better and larger; 18 by default, 30 for av1, 31 for vp9."),
    ] = None
    preset: Annotated[
        str | None,
        typer.Option(autocompletion=_completer(PRESETS), help="Encoding speed: ultrafast … veryslow; fast by default."),
    ] = None
    nvenc: Annotated[
        bool,
        typer.Option("--nvenc", help="Encode H.264 and HEVC on an NVIDIA GPU; file sizes at the same --crf differ."),
    ] = False
    encoder_option: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="A private option of the encoder, as FFmpeg names it; repeatable."),
    ] = None
    pix_fmt: Annotated[
        str | None, typer.Option("--pix-fmt", metavar="NAME", help="Pixel format, as FFmpeg names it; needs --codec.")
    ] = None
    segment: Annotated[
        float | None,
        typer.Option(help="Seconds of video per segment of the log; by default 2, or less if 2 take over 15 s."),
    ] = None
    height: Annotated[
        int | None,
        typer.Option(metavar="N", parser=_height, help="Resample the result down to this height, e.g. 1080."),
    ] = None
    container: Annotated[
        str | None,
        typer.Option(
            autocompletion=_completer(CONTAINERS),
            help=f"{', '.join(CONTAINERS)}: the container of stdout (default mkv) and of results without a name (default: that "
            "of the source, or mp4).",
        ),
    ] = None

    def encoder(self) -> "Encoder":
        """Convert the options to the engine's; raises SettingsError."""
        from upres.engine.encode.options import SEGMENT_SECONDS, Encoder

        if self.codec not in (*NAMES, *ALIASES):
            raise SettingsError(
                f"--codec must be {', '.join(NAMES)}, got {self.codec!r}; for exact pixels use --lossless"
            )
        codec: Any = "lossless" if self.lossless else ALIASES.get(self.codec, self.codec)
        facts = CODECS.get(codec, CODECS["h264"])
        if self.lossless and (self.codec != "auto" or self.crf is not None):
            raise SettingsError("--lossless sets the codec and its quality; remove --codec and --crf")
        if (self.crf is not None and facts.crf is None) or (self.preset is not None and facts.preset is None):
            raise SettingsError(
                f"{codec} has no --crf and no --preset; set options of {facts.library} with --encoder-option"
            )
        segment = SEGMENT_SECONDS if self.segment is None else self.segment
        return Encoder(
            codec,
            self.crf,
            self.preset or "fast",
            segment,
            self.height,
            pixel_format=self.pix_fmt,
            options=tuple(map(_pair, self.encoder_option or ())),
            nvenc=self.nvenc,
        )

    def suffixes(self) -> Suffixes:
        """Return the suffixes of results without a name; raises SettingsError if the container is unknown or lacks the codec."""
        codec = "--lossless" if self.lossless else ALIASES.get(self.codec, self.codec)
        taking = ("matroska",) if self.lossless else CODECS[codec].containers if codec in CODECS else tuple(SUFFIXES)
        suffixes = [SUFFIXES[container] for container in taking]
        if self.container is None:
            return Suffixes(suffixes[0], KEPT.intersection(suffixes if ".mp4" in suffixes else ()))
        if self.container not in CONTAINERS:
            raise SettingsError(f"--container must be {', '.join(CONTAINERS)}, got {self.container!r}")
        if (named := f".{self.container}") not in suffixes:
            others = " or ".join(suffix[1:] for suffix in suffixes)
            raise SettingsError(f"{named} does not support {codec}; choose --container {others}")
        return Suffixes(named, frozenset(), named)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise SettingsError(f"--encoder-option must be KEY=VALUE, such as tune=film, got {text!r}")
    return name, value


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceOptions:
    """Selection of a part of the source, and filters before upscaling."""

    PANEL: ClassVar = "Source"

    start: Annotated[str, typer.Option(metavar="TIME", help="Start at this time: seconds, or \\[h:]m:s.")] = "0"
    duration: Annotated[
        str | None, typer.Option(metavar="TIME", help="Upscale only this long; for a first try, three seconds.")
    ] = None
    at: Annotated[
        str | None,
        typer.Option("--still", metavar="TIME", help="Upscale only the frame at this time, as an image."),
    ] = None
    compare: Annotated[
        bool,
        typer.Option(
            "--compare", help="Put the bicubically upscaled source left of the image; for a video, use with --still."
        ),
    ] = False
    rate: Annotated[
        str | None,
        typer.Option(metavar="FPS", help="Frame rate of numbered images, such as frame_%05d.png; 25 by default."),
    ] = None
    prefilter: Annotated[
        list[str] | None,
        typer.Option(
            autocompletion=_completer(PREFILTERS), metavar="NAME", help=f"{', '.join(PREFILTERS)}; repeatable."
        ),
    ] = None
    split: Annotated[
        bool, typer.Option("--split", help="Cut at shot boundaries; the model's state is reset for each shot.")
    ] = False
    tonemap: Annotated[bool, typer.Option("--tonemap", help="Convert high dynamic range to SDR.")] = False
    nvdec: Annotated[
        bool, typer.Option("--nvdec", help="Decode on an NVIDIA GPU, in its driver; for videos that you trust.")
    ] = False

    def sequence_rate(self) -> Fraction | None:
        """Return the rate of numbered images, or None if it is not set; raises SettingsError."""
        if self.rate is None:
            return None
        try:
            rate = Fraction(self.rate)
        except (ValueError, ZeroDivisionError):
            rate = Fraction(0)
        if not 0 < rate <= MAX_IMAGE_RATE:
            raise SettingsError(
                f"--rate must be images per second, above 0 and at most {MAX_IMAGE_RATE}, such as 24 or 30000/1001, "
                f"got {self.rate!r}"
            )
        return rate

    def still(self) -> Fraction | None:
        """Return the time of the only frame to upscale, in seconds, or None; raises SettingsError."""
        return None if self.at is None else parse_time("--still", self.at)

    def settings(self) -> dict[str, Any]:
        """Return the fields of the engine's Job that concern the source; raises SettingsError."""
        from upres.engine.decode.cut import Cut

        duration = None if self.duration is None else parse_time("--duration", self.duration)
        cut = Cut(parse_time("--start", self.start), duration)
        flags = {"split": self.split, "tonemap": self.tonemap, "nvdec": self.nvdec}
        return {"prefilters": tuple(self.prefilter or ()), "cut": cut, **flags}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """Treatment of existing results, and reporting."""

    PANEL: ClassVar = "Run"

    yes: Annotated[bool, typer.Option("--yes", "-y", help="Start long runs without asking.")] = False
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Report what would be done and its cost, without doing it.")
    ] = False
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run of the same command.")] = False
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing output.")] = False
    skip_existing: Annotated[bool, typer.Option("--skip-existing", help="Skip inputs whose output exists.")] = False
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Report failures only.")] = False
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Also report the speed of each stage.")] = False
    json: Annotated[bool, typer.Option("--json", help="Write one JSON object per line instead of text.")] = False
