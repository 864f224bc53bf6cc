"""`upres IN OUT`: the options, and what they make of a run."""

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
from upres.engine.runtime.base import Quality

from . import signals
from .batch import Batch, interruptible, not_searched, pairs, stdin
from .console import Show
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
    runtime: Annotated[str, typer.Option(help="auto, openvino, onnxruntime, or cuda: an NVIDIA GPU.")] = "auto",
    prefilter: Annotated[list[str] | None, typer.Option(help=f"{', '.join(PREFILTERS)}; repeatable.")] = None,
    codec: Annotated[str, typer.Option(help="auto, h264 or hevc.")] = "auto",
    lossless: Annotated[
        bool, typer.Option("--lossless", help="Exactly what the network gave, as RGB H.264; to .mkv.")
    ] = False,
    crf: Annotated[int, typer.Option(help="Quality of the encoding: lower is better and larger.")] = 18,
    preset: Annotated[str, typer.Option(help="Speed of the encoding: ultrafast … veryslow.")] = "fast",
    segment: Annotated[float, typer.Option(help="Seconds a segment of the log lasts.")] = 2.0,
    height: Annotated[int | None, typer.Option(help="Resample the result down to this height, e.g. 1080.")] = None,
    start: Annotated[str, typer.Option(metavar="TIME", help="Begin there: seconds, or [h:]m:s.")] = "0",
    duration: Annotated[
        str | None, typer.Option(metavar="TIME", help="Stop after so long: try three seconds first.")
    ] = None,
    at: Annotated[
        str | None, typer.Option("--still", metavar="TIME", help="One picture of then, before and after, to OUT.png.")
    ] = None,
    split: Annotated[bool, typer.Option("--split", help="Cut at shot boundaries; each shot begins anew.")] = False,
    tonemap: Annotated[bool, typer.Option("--tonemap", help="Bring high dynamic range down to SDR.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Start also what will take very long on this machine.")] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where an interrupted run of the same command stopped.")
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
    """Enlarge IN into OUT. An interrupted run leaves OUT.upres, from which --resume goes on."""
    show = Show(json=json, beside_data=target == "-")
    with show.failures(json), interruptible():
        _two_names(context.args)
        cut = Cut(exactly("--start", start), None if duration is None else exactly("--duration", duration))
        encoder, suffix = Encoder(_codec(codec, lossless), crf, preset, segment, height), _suffix(container)
        with signals.not_begun():
            models, notes = load_models(chain or model, content, quality, runtime, scale)
        for note in notes:
            show.warn(note)
        if at is not None:
            opened = stdin() if source == "-" else source
            still.write(opened, Path(target), models, at=exactly("--still", at), tonemap=tonemap, overwrite=overwrite)
            show.say(f"{target}: before on the left, after on the right")
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
            show,
            yes=yes,
            resume=resume,
            overwrite=overwrite,
            skip_existing=skip_existing,
        )
        chosen, folder = pairs(source, target, ".mkv" if lossless else ".mp4")
        if passed := not_searched(source):
            show.warn(passed)
        code = batch.run(chosen, folder)
    if code:
        raise typer.Exit(code)


def _two_names(more: list[str]) -> None:
    """SettingsError where a shell has put many names in the place of a glob."""
    if more:
        raise SettingsError(
            f"{2 + len(more)} names were given where IN and OUT are two; for several inputs put the glob in quotes, "
            "upres 'clips/*.mp4' larger/, or name their folder, upres clips/ larger/"
        )


def load_models(
    names: str, content: str, quality: str, runtime: str, scale: int | None = None
) -> tuple[list[Any], list[str]]:
    """The models of a chain, and what a user should know of the choice."""
    if quality not in ("exact", "high"):
        raise SettingsError(f"quality must be exact or high, got {quality!r}")
    chosen: Quality = "exact" if quality == "exact" else "high"
    loaded = []
    for name in [name.strip() for name in names.split(",")]:
        # In a chain, a scale is for those that offer several.
        wanted = scale if "," not in names or len(slug_of(name).scales) > 1 else None
        loaded.append(registry.load(name, content=content, quality=chosen, runtime=runtime, scale=wanted))
    notes = [note for _, note in loaded if note]
    if quality == "high" and (exact := [model.report for model, _ in loaded if "fp32" in model.report]):
        why = "ONNX Runtime computes in float32 only" if "ONNX" in exact[0] else "this CPU has no bfloat16"
        notes.append(f"{why}, so high is exact ({exact[0]})")
    if [model.scale for model, _ in loaded].count(2) > 1:
        notes.append("x2 after x2 enlarges artefacts twice; x4 is the better way to 4")
    return [model for model, _ in loaded], notes


def _suffix(container: str) -> str:
    if container not in STDOUT_CONTAINERS:
        raise SettingsError(f"--container must be {', '.join(STDOUT_CONTAINERS)}, got {container!r}")
    return f".{container}"


def _codec(name: str, lossless: bool) -> Codec:
    if name not in ("auto", "h264", "hevc"):
        raise SettingsError(f"codec must be auto, h264 or hevc, got {name!r}; exact pixels are --lossless")
    return "lossless" if lossless else cast(Codec, name)
