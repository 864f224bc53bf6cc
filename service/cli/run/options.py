"""The options of `upres IN OUT` in groups: each field is an option, each method what its group is for."""

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
from upres.service.cli.options import exactly, times

if TYPE_CHECKING:
    from upres.engine.encode.options import Encoder

MOST_A_SECOND = 1000  # images of a sequence
CONTAINERS = ("mp4", "mov", "mkv", "webm")
KEPT = frozenset({".mov", ".mkv"})
"""Suffixes of sources that results have as well, where nothing else is asked for."""
NAMES = ("auto", *CODECS, "h265")
"""Of codecs; the last one is another name of hevc."""
SAME = {"h265": "hevc"} | {facts.library: name for name, facts in CODECS.items()}
"""Other names of codecs: FFmpeg's of their encoders, too."""
SUFFIXES = {"mp4": ".mp4", "mov": ".mov", "matroska": ".mkv", "webm": ".webm"}
RUNTIMES = ("auto", *sorted(entry.name for entry in entry_points(group="upres.runtimes")))
"""As `upres.engine.runtime.registry` lists them, which imports NumPy."""


@dataclass(frozen=True, slots=True)
class Suffixes:
    """How names of videos end that nobody gave. usual: by default. kept: as the source's, of those. stdout: as if it had a name."""

    usual: str = ".mp4"
    kept: frozenset[str] = KEPT
    stdout: str = ".mkv"

    def of(self, source: Path) -> str:
        """Give the suffix of a source's result."""
        own = source.suffix.lower()
        return own if own in self.kept else self.usual


def _height(text: str) -> int:
    """Read a height, as 1080 or 1080p."""
    height = text.lower().removesuffix("p")
    if not height.isdecimal():
        raise SettingsError(f"--height must be a number of pixels, as 1080, got {text!r}")
    return int(height)


def _models(incomplete: str) -> Iterator[str]:
    """Complete the name of a model: of several, the last one."""
    before, comma, last = incomplete.rpartition(",")
    yield from (f"{before}{comma}{name}" for name in (*SHORT, *SLUGS, *NETWORKS) if name.startswith(last))


def _among(names: Iterable[str]) -> Callable[[str], list[str]]:
    """Make what completes one of some names."""
    return lambda incomplete: [name for name in names if name.startswith(incomplete)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOptions:
    """Which models run, and how. Without a name and a scale, the height of each source decides."""

    PANEL: ClassVar = "Model"

    scale: Annotated[
        int | None,
        typer.Option(
            "--scale",
            "-s",
            metavar="N",
            parser=times,
            help="2, 3 or 4 times as wide and high; by default 4, and 2 from 540p up.",
        ),
    ] = None
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            help=f"{', '.join(SHORT)}, or another one of `upres models`; by default as the scale asks for.",
            autocompletion=_models,
        ),
    ] = None
    chain: Annotated[
        str | None,
        typer.Option(help="Models one after the other, A,B; instead of --model.", autocompletion=_models),
    ] = None
    content: Annotated[
        str,
        typer.Option(
            autocompletion=_among(("auto", "photo", "animation", "live")),
            help="auto, photo, animation or live: which network inside a model.",
        ),
    ] = "auto"
    quality: Annotated[
        str,
        typer.Option(
            autocompletion=_among(("exact", "high", "fast")),
            help="exact: float32. high: bfloat16 where the CPU has it, at 50 dB. fast: int8, at 40 dB on video, less on text.",
        ),
    ] = "high"
    runtime: Annotated[
        str,
        typer.Option(
            autocompletion=_among(RUNTIMES),
            help=f"{', '.join(RUNTIMES)}; cuda, tensorrt …: an NVIDIA GPU. auto: the fastest that `upres tune` found.",
        ),
    ] = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodingOptions:
    """How the result is encoded."""

    PANEL: ClassVar = "Encoding"

    codec: Annotated[
        str,
        typer.Option(
            autocompletion=_among(NAMES),
            help=f"{', '.join(NAMES)}. auto: H.264, HEVC above 4096 pixels a side or 8 bits, in WebM VP9. ProRes goes into "
            "MOV and MKV, FFV1 into MKV.",
        ),
    ] = "auto"
    lossless: Annotated[
        bool, typer.Option("--lossless", help="Keep exactly what the network computed, as RGB H.264; needs .mkv.")
    ] = False
    crf: Annotated[
        int | None,
        typer.Option(help="Quality of the encoding: lower is better and larger; 18 by default, of av1 30, of vp9 31."),
    ] = None
    preset: Annotated[
        str | None,
        typer.Option(
            autocompletion=_among(PRESETS), help="Speed of the encoding: ultrafast … veryslow; fast by default."
        ),
    ] = None
    nvenc: Annotated[
        bool, typer.Option("--nvenc", help="H.264 and HEVC by an NVIDIA GPU's encoder: another size at the same --crf.")
    ] = False
    encoder_option: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="An option of the encoder's own, as FFmpeg names it; repeatable."),
    ] = None
    pix_fmt: Annotated[
        str | None, typer.Option("--pix-fmt", metavar="NAME", help="FFmpeg's name of a pixel format; needs --codec.")
    ] = None
    segment: Annotated[
        float | None,
        typer.Option(help="Seconds of video in a segment of the log; by default 2, or what takes about 15 s of work."),
    ] = None
    height: Annotated[
        int | None,
        typer.Option(metavar="N", parser=_height, help="Resample the result down to this height, e.g. 1080."),
    ] = None
    container: Annotated[
        str | None,
        typer.Option(
            autocompletion=_among(CONTAINERS),
            help=f"{', '.join(CONTAINERS)}: of stdout, by default mkv, and of results without a name of their own, by default "
            "as the source or mp4.",
        ),
    ] = None

    def encoder(self) -> "Encoder":
        """Make the engine's options; raises SettingsError."""
        from upres.engine.encode.options import SEGMENT_SECONDS, Encoder

        if self.codec not in (*NAMES, *SAME):
            raise SettingsError(f"--codec must be {', '.join(NAMES)}, got {self.codec!r}; exact pixels are --lossless")
        codec: Any = "lossless" if self.lossless else SAME.get(self.codec, self.codec)
        facts = CODECS.get(codec, CODECS["h264"])
        if self.lossless and (self.codec != "auto" or self.crf is not None):
            raise SettingsError("--lossless is a codec of its own, so leave --codec and --crf out")
        if (self.crf is not None and facts.crf is None) or (self.preset is not None and facts.preset is None):
            raise SettingsError(f"{codec} has no --crf and no --preset; --encoder-option sets what {facts.library} has")
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
        """Give how names end that nobody gave; raises SettingsError where the container is none, or does not take the codec."""
        codec = "--lossless" if self.lossless else SAME.get(self.codec, self.codec)
        taking = ("matroska",) if self.lossless else CODECS[codec].containers if codec in CODECS else tuple(SUFFIXES)
        suffixes = [SUFFIXES[container] for container in taking]
        if self.container is None:
            return Suffixes(suffixes[0], KEPT.intersection(suffixes if ".mp4" in suffixes else ()))
        if self.container not in CONTAINERS:
            raise SettingsError(f"--container must be {', '.join(CONTAINERS)}, got {self.container!r}")
        if (named := f".{self.container}") not in suffixes:
            others = " or ".join(suffix[1:] for suffix in suffixes)
            raise SettingsError(f"{codec} does not go into {named}; choose --container {others}")
        return Suffixes(named, frozenset(), named)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise SettingsError(f"--encoder-option must be KEY=VALUE, as tune=film, got {text!r}")
    return name, value


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
        typer.Option("--still", metavar="TIME", help="Only the frame that is shown then, as an image."),
    ] = None
    compare: Annotated[
        bool,
        typer.Option(
            "--compare", help="Images with their source on the left, upscaled bicubically; of a video, with --still."
        ),
    ] = False
    rate: Annotated[
        str | None,
        typer.Option(metavar="FPS", help="Of numbered images, frame_%05d.png: how many make a second; 25 by default."),
    ] = None
    prefilter: Annotated[
        list[str] | None,
        typer.Option(autocompletion=_among(PREFILTERS), metavar="NAME", help=f"{', '.join(PREFILTERS)}; repeatable."),
    ] = None
    split: Annotated[
        bool, typer.Option("--split", help="Cut at shot boundaries; each shot starts from a fresh state.")
    ] = False
    tonemap: Annotated[bool, typer.Option("--tonemap", help="Bring high dynamic range down to SDR.")] = False

    def sequence_rate(self) -> Fraction | None:
        """Give the rate of numbered images, where one was named; raises SettingsError."""
        if self.rate is None:
            return None
        try:
            rate = Fraction(self.rate)
        except (ValueError, ZeroDivisionError):
            rate = Fraction(0)
        if not 0 < rate <= MOST_A_SECOND:
            raise SettingsError(
                f"--rate must be images a second, above 0 and at most {MOST_A_SECOND}, as 24 or 30000/1001, got {self.rate!r}"
            )
        return rate

    def still(self) -> Fraction | None:
        """Give the time of the one frame that is wanted, in seconds, if any; raises SettingsError."""
        return None if self.at is None else exactly("--still", self.at)

    def settings(self) -> dict[str, Any]:
        """Give the fields of the engine's Job that are about the source; raises SettingsError."""
        from upres.engine.decode.cut import Cut

        duration = None if self.duration is None else exactly("--duration", self.duration)
        cut = Cut(exactly("--start", self.start), duration)
        return {"prefilters": tuple(self.prefilter or ()), "split": self.split, "cut": cut, "tonemap": self.tonemap}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What happens with results that are there already, and how the run is reported."""

    PANEL: ClassVar = "Run"

    yes: Annotated[bool, typer.Option("--yes", "-y", help="Start even what takes long, and do not ask.")] = False
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done and what it would take, and do nothing.")
    ] = False
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue where an interrupted run of the same command stopped.")
    ] = False
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an output that exists.")] = False
    skip_existing: Annotated[bool, typer.Option("--skip-existing", help="Leave out inputs whose output exists.")] = (
        False
    )
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but what went wrong.")] = False
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say how fast each stage was, too.")] = False
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line instead of text.")] = False
