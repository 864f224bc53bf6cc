"""`upres IN OUT`: settings from options, one upscale after the other, and what is said meanwhile."""

import glob
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from upres.engine import join, predict, select, still
from upres.engine.catalog import slug_of
from upres.engine.errors import Interrupted, SettingsError, TargetError, UpresError
from upres.engine.pipeline import Job, Progress
from upres.engine.reader import Cut, Reader
from upres.engine.runtime import Quality
from upres.engine.source import Source
from upres.engine.upscale import check_target, upscale
from upres.engine.writer import Codec, Encoder

from .show import Show

VIDEO_SUFFIXES = {
    ".mp4",
    ".m4v",
    ".mov",
    ".mkv",
    ".webm",
    ".avi",
    ".wmv",
    ".asf",
    ".mpg",
    ".mpeg",
    ".ts",
    ".m2ts",
    ".ogv",
    ".ogg",
}


def run(
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
    runtime: Annotated[str, typer.Option(help="auto, openvino or onnxruntime.")] = "auto",
    prefilter: Annotated[
        list[str] | None, typer.Option(help="deinterlace, denoise, deblock, stabilise, …; repeatable.")
    ] = None,
    codec: Annotated[str, typer.Option(help="auto, h264 or hevc.")] = "auto",
    lossless: Annotated[
        bool, typer.Option("--lossless", help="Exactly what the network gave, as RGB H.264; to .mkv.")
    ] = False,
    crf: Annotated[int, typer.Option(help="Quality of the encoding: lower is better and larger.")] = 18,
    preset: Annotated[str, typer.Option(help="Speed of the encoding: ultrafast … veryslow.")] = "fast",
    segment: Annotated[float, typer.Option(help="Seconds a segment of the log lasts.")] = 2.0,
    height: Annotated[int | None, typer.Option(help="Resample the result down to this height, e.g. 1080.")] = None,
    start: Annotated[float, typer.Option(help="Begin this many seconds in.")] = 0.0,
    duration: Annotated[float | None, typer.Option(help="Stop after this many seconds: try three first.")] = None,
    at: Annotated[
        float | None, typer.Option("--still", help="One picture at this second, before and after, to OUT.png.")
    ] = None,
    split: Annotated[bool, typer.Option("--split", help="Cut at shot boundaries, each shot its own session.")] = False,
    tonemap: Annotated[bool, typer.Option("--tonemap", help="Bring high dynamic range down to SDR.")] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where an interrupted run of the same command stopped.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an output that exists.")] = False,
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="Leave out inputs whose output exists.")
    ] = False,
    container: Annotated[str, typer.Option(help="For stdout: mp4, mov or mkv.")] = "mkv",
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line instead of text.")] = False,
) -> None:
    """Enlarge IN into OUT. An interrupted run leaves OUT.upres, from which --resume goes on."""
    show = Show(json=json)
    models, notes = load_models(chain or model, content, quality, runtime, scale)
    for note in notes:
        show.warn(note)
    encoder = Encoder(_codec(codec, lossless), crf, preset, segment, height)
    cut = Cut(Fraction(str(start)), None if duration is None else Fraction(str(duration)))
    settings: dict[str, Any] = {"prefilters": tuple(prefilter or ()), "split": split, "cut": cut, "tonemap": tonemap}
    if at is not None:
        still.write(source, Path(target), models, at=Fraction(str(at)), tonemap=tonemap)
        show.say(f"{target}: before on the left, after on the right")
        return
    pairs = outputs(source, target)
    if skip_existing:
        pairs = [(one, into) for one, into in pairs if into == "-" or not Path(into).exists()]
    code = 0
    for one, into in pairs:
        ends = f".{container}" if into == "-" else Path(into).suffix
        job = Job(tuple(models), encoder, join.container_for(Path(f"x{ends}")), **settings)
        if lossless and job.container != "matroska":
            raise SettingsError(
                f"--lossless writes RGB H.264, which players know in .mkv only; name the output {Path(into).stem}.mkv"
            )
        try:
            _one(one, into, job, show, resume=resume, overwrite=overwrite)
        except UpresError as error:
            if len(pairs) == 1:
                raise
            show.fail(one, error)
            code = code or error.exit_code
    if code:
        raise typer.Exit(code)


def load_models(
    names: str, content: str, quality: str, runtime: str, scale: int | None = None
) -> tuple[list[Any], list[str]]:
    """The models of a chain, and what a user should know of the choice."""
    if quality not in ("exact", "high"):
        raise SettingsError(f"quality must be exact or high, got {quality!r}")
    chosen: Quality = "exact" if quality == "exact" else "high"
    loaded = []
    for name in names.split(","):
        # In a chain, a scale is for those that offer several.
        wanted = scale if "," not in names or len(slug_of(name).scales) > 1 else None
        loaded.append(select.load(name, content=content, quality=chosen, runtime=runtime, scale=wanted))
    notes = [note for _, note in loaded if note]
    if quality == "high" and (exact := [model.report for model, _ in loaded if "fp32" in model.report]):
        notes.append(f"this machine has no bfloat16 for it, so high is exact ({exact[0]})")
    if [model.scale for model, _ in loaded].count(2) > 1:
        notes.append("x2 after x2 enlarges artefacts twice; x4 is the better way to 4")
    return [model for model, _ in loaded], notes


def outputs(source: str, target: str) -> list[tuple[str, str]]:
    """Inputs and outputs, one pair each; SettingsError where several inputs would go into one file."""
    if source == "-" or Path(source).is_file():
        into = Path(target)
        return [(source, str(into / f"{Path(source).stem}.mp4") if into.is_dir() and target != "-" else target)]
    inputs = (
        sorted(Path(source).iterdir())
        if Path(source).is_dir()
        else [Path(name) for name in sorted(glob.glob(source, recursive=True))]  # noqa: PTH207 - absolute patterns too
    )
    videos = [path for path in inputs if path.suffix.lower() in VIDEO_SUFFIXES]
    if not videos:
        return [(source, target)]  # the reader says what is wrong with it
    folder = Path(target)
    if folder.suffix or target == "-":
        raise SettingsError(f"{len(videos)} inputs need a folder to go to; {target} is not one")
    folder.mkdir(parents=True, exist_ok=True)
    return [(str(path), str(folder / f"{path.stem}.mp4")) for path in videos]


def _codec(name: str, lossless: bool) -> Codec:
    if name not in ("auto", "h264", "hevc"):
        raise SettingsError(f"codec must be auto, h264 or hevc, got {name!r}; exact pixels are --lossless")
    return "lossless" if lossless else cast(Codec, name)


def _one(source: str, target: str, job: Job, show: Show, *, resume: bool, overwrite: bool) -> None:
    if source == "-":
        _upscale(sys.stdin.buffer, "stdin", target, job, show, resume=resume, overwrite=overwrite)
        return
    with checked(source, target, job, overwrite=overwrite or resume) as reader:
        prediction = predict.predict(reader, job)
    if target != "-":
        predict.refuse_what_cannot_fit(prediction, Path(target).absolute().parent)
    show.predicted(source, prediction, job)
    _upscale(source, source, target, job, show, resume=resume, overwrite=overwrite)


def checked(source: str, target: str, job: Job, *, overwrite: bool) -> Reader:
    """The source, open; before any work, an error that names what is wrong with it and with the target."""
    errors: list[UpresError] = []
    reader: Reader | None = None
    try:
        reader = Reader(source, cut=job.cut, tonemap=job.tonemap)
    except UpresError as error:
        errors.append(error)
    try:
        if target != "-":
            check_target(Path(target), job.container, overwrite=overwrite)
            if Path(target).exists() and Path(source).exists() and Path(source).samefile(target):
                raise TargetError(f"{target} is the input itself; name another output")
    except UpresError as error:
        errors.append(error)
    if reader is not None and not errors:
        return reader
    if reader is not None:
        reader.close()
    raise type(errors[0])("; ".join(map(str, errors)))


@contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C and SIGTERM as an error like the others, with what was noted about resuming."""
    try:
        yield
    except KeyboardInterrupt as stop:
        error = Interrupted("interrupted")
        for note in getattr(stop, "__notes__", ()):
            error.add_note(note)
        raise error from stop


def _upscale(source: Source, name: str, target: str, job: Job, show: Show, *, resume: bool, overwrite: bool) -> None:
    progress = Progress()
    with show.running(name, progress) as tick, interruptible():
        if target == "-":
            upscale(source, sys.stdout.buffer, job, progress=progress, tick=tick)
        else:
            upscale(source, target, job, resume=resume, overwrite=overwrite, progress=progress, tick=tick)
    show.done(name, target, progress, job)
