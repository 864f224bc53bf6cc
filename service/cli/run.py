"""`upres IN OUT`: its options, and the run they describe."""

from pathlib import Path
from typing import Annotated, Any, cast

import typer

from upres.engine.core.errors import SettingsError
from upres.engine.decode.cut import Cut
from upres.engine.decode.filters import PREFILTERS
from upres.engine.encode.options import Codec, Encoder
from upres.engine.models import registry
from upres.engine.models.catalog import slug_of
from upres.engine.pipeline import still
from upres.engine.runtime import registry as runtimes

from . import signals
from .batch import Batch, interruptible, not_searched, pairs, stdin
from .console import Report
from .duration import exactly

STDOUT_CONTAINERS = ("mp4", "mov", "mkv")


def run(
    context: typer.Context,
    source: Annotated[str, typer.Argument(metavar="IN", help="A file, a folder, a glob in quotes, or - for stdin.")],
    target: Annotated[str, typer.Argument(metavar="OUT", help="A file, a folder for several inputs, or - for stdout.")],
    model: Annotated[
        str, typer.Option("--model", "-m", help="A model or network; see `upres models`.")
    ] = "RealESRGAN_Vid_x4",
    chain: Annotated[str | None, typer.Option(help="Models one after the other, A,B; instead of --model.")] = None,
    scale: Annotated[int | None, typer.Option(help="2, 3 or 4, for a model that offers several.")] = None,
    content: Annotated[str, typer.Option(help="auto, photo or animation: which network inside a model.")] = "auto",
    quality: Annotated[
        str, typer.Option(help="exact: float32. high: bfloat16 where the CPU has it, at 50 dB or more.")
    ] = "high",
    runtime: Annotated[str, typer.Option(help=f"{', '.join(runtimes.names())}; cuda: an NVIDIA GPU.")] = "auto",
    prefilter: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help=f"{', '.join(PREFILTERS)}; repeatable.")
    ] = None,
    codec: Annotated[str, typer.Option(help="auto, h264 or hevc.")] = "auto",
    lossless: Annotated[
        bool, typer.Option("--lossless", help="Keep exactly what the network computed, as RGB H.264; needs .mkv.")
    ] = False,
    crf: Annotated[int, typer.Option(help="Quality of the encoding: lower is better and larger.")] = 18,
    preset: Annotated[str, typer.Option(help="Speed of the encoding: ultrafast … veryslow.")] = "fast",
    segment: Annotated[float, typer.Option(help="Seconds that each segment of the log lasts.")] = 2.0,
    height: Annotated[int | None, typer.Option(help="Resample the result down to this height, e.g. 1080.")] = None,
    start: Annotated[str, typer.Option(metavar="TIME", help="Start there: seconds, or \\[h:]m:s.")] = "0",
    duration: Annotated[
        str | None, typer.Option(metavar="TIME", help="Upscale only so much: try three seconds first.")
    ] = None,
    at: Annotated[
        str | None,
        typer.Option("--still", metavar="TIME", help="One frame of that time, before and after, to OUT.png."),
    ] = None,
    split: Annotated[
        bool, typer.Option("--split", help="Cut at shot boundaries; each shot starts from a fresh state.")
    ] = False,
    tonemap: Annotated[bool, typer.Option("--tonemap", help="Bring high dynamic range down to SDR.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Start even what takes very long on this machine.")] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue where an interrupted run of the same command stopped.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an output that exists.")] = False,
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="Leave out inputs whose output exists.")
    ] = False,
    container: Annotated[
        str, typer.Option(help="For stdout, which gets the result at the end: mp4, mov or mkv.")
    ] = "mkv",
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line instead of text.")] = False,
) -> None:
    """Upscale IN into OUT. An interrupted run leaves OUT.upres, from which --resume continues."""
    report = Report(json=json, beside_data=target == "-")
    with report.failures(), interruptible():
        _two_names(context.args)
        cut = Cut(exactly("--start", start), None if duration is None else exactly("--duration", duration))
        encoder, suffix = Encoder(_codec(codec, lossless), crf, preset, segment, height), _suffix(container)
        with signals.immediate():
            models, notes = load_models(chain or model, content, quality, runtime, scale)
        for note in notes:
            report.warn(note)
        if at is not None:
            opened = stdin() if source == "-" else source
            still.write(opened, Path(target), models, at=exactly("--still", at), tonemap=tonemap, overwrite=overwrite)
            report.say(f"{target}: before on the left, after on the right")
            return
        settings: dict[str, Any] = {
            "prefilters": tuple(prefilter or ()),
            "split": split,
            "cut": cut,
            "tonemap": tonemap,
        }
        batch = Batch(
            tuple(models),
            encoder,
            settings,
            suffix,
            report,
            yes=yes,
            resume=resume,
            overwrite=overwrite,
            skip_existing=skip_existing,
        )
        chosen, folder = pairs(source, target, ".mkv" if lossless else ".mp4")
        if passed := not_searched(source):
            report.warn(passed)
        code = batch.run(chosen, folder)
    if code:
        raise typer.Exit(code)


def _two_names(more: list[str]) -> None:
    """Raise SettingsError where a shell has replaced a glob by many names."""
    if more:
        raise SettingsError(
            f"{2 + len(more)} arguments, where IN and OUT are two; for several inputs put the glob in quotes, "
            "upres 'clips/*.mp4' upscaled/, or name their folder, upres clips/ upscaled/"
        )


def load_models(
    names: str, content: str, quality: str, runtime: str, scale: int | None = None
) -> tuple[list[Any], list[str]]:
    """Load the models of a chain; gives them, and what a user should know of the choice."""
    loaded = []
    for name in [name.strip() for name in names.split(",")]:
        # In a chain, a scale is for those that offer several.
        wanted = scale if "," not in names or len(slug_of(name).scales) > 1 else None
        loaded.append(registry.load(name, content=content, quality=quality, runtime=runtime, scale=wanted))
    notes = [note for _, note in loaded if note]
    if quality == "high" and (exact := [model.report for model, _ in loaded if "fp32" in model.report]):
        why = "ONNX Runtime computes in float32 only" if "ONNX" in exact[0] else "this CPU has no bfloat16"
        notes.append(f"{why}, so high is exact ({exact[0]})")
    if [model.scale for model, _ in loaded].count(2) > 1:
        notes.append("x2 after x2 upscales artefacts twice; x4 is the better way to 4")
    return [model for model, _ in loaded], notes


def _suffix(container: str) -> str:
    if container not in STDOUT_CONTAINERS:
        raise SettingsError(f"--container must be {', '.join(STDOUT_CONTAINERS)}, got {container!r}")
    return f".{container}"


def _codec(name: str, lossless: bool) -> Codec:
    if name not in ("auto", "h264", "hevc"):
        raise SettingsError(f"codec must be auto, h264 or hevc, got {name!r}; exact pixels are --lossless")
    return "lossless" if lossless else cast(Codec, name)
