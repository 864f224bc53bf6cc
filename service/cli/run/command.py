"""`upres IN OUT`: upscale files here."""

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from upres.service.cli import signals
from upres.service.cli.options import built

if TYPE_CHECKING:
    from upres.service.cli.console import Report

from .options import EncodingOptions, ModelOptions, RunOptions, SourceOptions

Names = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="IN … [OUT]",
        help="Videos, images, folders, globs in quotes, or - for stdin; then, after one input or several, a file, a folder, or "
        "- for stdout. Without OUT, in.mp4 becomes in_x4.mp4 beside it, photo.jpg photo_x4.jpg.",
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
        code = _batch(sources, target, report, choice, encoding, part, options)
    if code:
        raise typer.Exit(code)


def _batch(
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
        from .stills import Stills
        from .unused import Unused
        from .videos import Videos

    settings, encoder, suffixes = part.settings(), encoding.encoder(), encoding.suffixes()
    at = part.still()
    chosen, folder = pairs(sources, target, suffixes, at)
    chosen = [replace(pair, rate=part.sequence_rate()) for pair in chosen]
    for passed in filter(None, map(not_searched, sources)):
        report.warn(passed)
    choice = Choice(options)
    wanted = choice.named()
    unused = Unused.of(report, encoding, part, run_options)
    if (
        run_options.resume and len(chosen) > 1 and not run_options.overwrite
    ):  # those that are finished have nothing to resume
        run_options = replace(run_options, skip_existing=True)
    height, lossless, tonemap = encoding.height, encoding.lossless, part.tonemap
    stills = Stills(choice, wanted, report, run_options, height, lossless, part.compare, tonemap, unused)
    by_work = encoding.segment is None
    videos = Videos(choice, wanted, encoder, settings, suffixes, report, run_options, by_work, unused)
    batch = Batch(report, videos, stills, at, run_options.overwrite or run_options.resume)
    return batch.run(chosen, folder)
