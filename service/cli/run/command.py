"""`upres IN OUT`: upscale files on this machine."""

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from upres.service.cli import signals
from upres.service.cli.options import with_options

if TYPE_CHECKING:
    from upres.service.cli.console import Report

from .options import EncodingOptions, ModelOptions, RunOptions, SourceOptions

Names = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="IN … [OUT]",
        help="One or more inputs: videos, images, folders, quoted globs, or - for stdin. Then the target: a file, a folder, or "
        "- for stdout. Without OUT, the result of in.mp4 is in_x4.mp4 next to it, and that of photo.jpg is photo_x4.jpg.",
        show_default=False,
    ),
]
Inputs = Annotated[
    list[str] | None, typer.Option("--input", "-i", metavar="IN", help="An input, as an option; repeatable.")
]
Output = Annotated[str | None, typer.Option("--output", "-o", metavar="OUT", help="The target, as an option.")]


@with_options(choice=ModelOptions, encoding=EncodingOptions, part=SourceOptions, options=RunOptions)
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
    """Upscale IN into OUT. An interrupted run leaves OUT.upres behind, from which --resume continues."""
    with signals.exiting_on_signals():
        from upres.service.cli.console import Report

        from .inputs import split_target

    sources, target = split_target(names or [], inputs or [], output)
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
    """Upscale all sources; returns the exit code."""
    with signals.exiting_on_signals():
        from .batch import Batch
        from .choice import Choice
        from .inputs import not_searched, pair_inputs
        from .stills import Stills
        from .unused import Unused
        from .videos import Videos

    settings, encoder, suffixes = part.settings(), encoding.encoder(), encoding.suffixes()
    at = part.still()
    chosen, folder = pair_inputs(sources, target, suffixes, at)
    chosen = [replace(pair, rate=part.sequence_rate()) for pair in chosen]
    for passed in filter(None, map(not_searched, sources)):
        report.warn(passed)
    choice = Choice(options)
    selection = choice.explicit()
    unused = Unused.of(report, encoding, part, run_options)
    if run_options.resume and len(chosen) > 1 and not run_options.overwrite:  # finished inputs have nothing to resume
        run_options = replace(run_options, skip_existing=True)
    height, lossless, tonemap = encoding.height, encoding.lossless, part.tonemap
    stills = Stills(choice, selection, report, run_options, height, lossless, part.compare, tonemap, unused)
    by_work = encoding.segment is None
    videos = Videos(choice, selection, encoder, settings, suffixes, report, run_options, by_work, unused)
    batch = Batch(report, videos, stills, at, run_options.overwrite or run_options.resume)
    return batch.run(chosen, folder)
