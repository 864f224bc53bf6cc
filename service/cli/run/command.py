"""`upres IN OUT`: upscale files here."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from upres.engine.core.errors import SettingsError
from upres.service.cli import signals
from upres.service.cli.options import built

if TYPE_CHECKING:
    from upres.service.cli.console import Report

from .options import EncodingOptions, ModelOptions, RunOptions, SourceOptions

Names = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="IN … [OUT]",
        help="Files, folders, globs in quotes, or - for stdin; then, after one input or several, a file, a folder, or - for "
        "stdout. Without OUT, in.mp4 becomes in_x4.mp4 beside it.",
        show_default=False,
    ),
]
Inputs = Annotated[
    list[str] | None, typer.Option("--input", "-i", metavar="IN", help="An input, as an option; repeatable.")
]
Output = Annotated[str | None, typer.Option("--output", "-o", metavar="OUT", help="The target, as an option.")]


@built(choice=ModelOptions, encoding=EncodingOptions, part=SourceOptions, options=RunOptions)
def run(
    names: Names = None,
    inputs: Inputs = None,
    output: Output = None,
    *,
    choice: ModelOptions,
    encoding: EncodingOptions,
    part: SourceOptions,
    options: RunOptions,
) -> None:
    """Upscale IN into OUT. An interrupted run leaves OUT.upres, from which --resume continues."""
    with signals.immediate():
        from upres.service.cli.console import Report

        from .inputs import arranged

    sources, target = arranged(names or [], inputs or [], output)
    report = Report(json=options.json, quiet=options.quiet, verbose=options.verbose, beside_data=target == "-")
    with report.failures(), signals.interruptible():
        if part.at is not None:
            _still(sources, target, report, choice, part, options)
            return
        code = _videos(sources, target, report, choice, encoding, part, options)
    if code:
        raise typer.Exit(code)


def _videos(
    sources: list[str],
    target: str | None,
    report: "Report",
    options: ModelOptions,
    encoding: EncodingOptions,
    part: SourceOptions,
    run_options: RunOptions,
) -> int:
    """Upscale all sources; gives the exit code."""
    with signals.immediate():
        from .batch import Batch
        from .choice import Choice
        from .inputs import not_searched, pairs

    settings, encoder, (suffix, stdout_suffix) = part.settings(), encoding.encoder(), encoding.suffixes()
    chosen, folder = pairs(sources, target, suffix)
    for passed in filter(None, map(not_searched, sources)):
        report.warn(passed)
    choice = Choice(options)
    batch = Batch(
        choice, choice.named(), encoder, settings, suffix, stdout_suffix, report, run_options, encoding.segment is None
    )
    return batch.run(chosen, folder)


def _still(
    sources: list[str],
    target: str | None,
    report: "Report",
    options: ModelOptions,
    part: SourceOptions,
    run_options: RunOptions,
) -> None:
    """Write one frame, before and after."""
    with signals.immediate():
        from upres.engine.pipeline import still
        from upres.service.cli.stdio import stdin

        from .choice import Choice

    if len(sources) > 1:
        raise SettingsError("--still takes one input: upres in.mp4 look.png --still 62")
    choice, source, time = Choice(options), sources[0], part.still()
    assert time is not None
    wanted = choice.named() or choice.advised(still.height(source, tonemap=part.tonemap) if source != "-" else 0)
    models, notes = choice.load(wanted)
    for note in notes:
        report.warn(note)
    place = Path(target or Path(source).with_name(f"{Path(source).stem}_x{wanted.times}.png"))
    opened = stdin() if source == "-" else source
    still.write(opened, place, models, at=time, tonemap=part.tonemap, overwrite=run_options.overwrite)
    report.say(f"{place}: before on the left, after on the right")
