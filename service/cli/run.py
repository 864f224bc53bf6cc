"""`upres IN OUT`: upscale files here."""

from pathlib import Path
from typing import Annotated

import typer

from upres.engine.core.errors import SettingsError
from upres.engine.pipeline import still
from upres.engine.pipeline.resumable import resumed_models

from . import signals
from .batch import Batch, interruptible, not_searched, pairs, stdin
from .console import Report
from .options import built
from .run_options import EncodingOptions, ModelOptions, RunOptions, SourceOptions

Source = Annotated[str, typer.Argument(metavar="IN", help="A file, a folder, a glob in quotes, or - for stdin.")]
Target = Annotated[str, typer.Argument(metavar="OUT", help="A file, a folder for several inputs, or - for stdout.")]


@built(choice=ModelOptions, encoding=EncodingOptions, part=SourceOptions, options=RunOptions)
def run(
    context: typer.Context,
    source: Source,
    target: Target,
    *,
    choice: ModelOptions,
    encoding: EncodingOptions,
    part: SourceOptions,
    options: RunOptions,
) -> None:
    """Upscale IN into OUT. An interrupted run leaves OUT.upres, from which --resume continues."""
    report = Report(json=options.json, beside_data=target == "-")
    with report.failures(), interruptible():
        _check_names(context.args)
        settings, encoder, (suffix, stdout_suffix) = part.settings(), encoding.encoder(), encoding.suffixes()
        with signals.immediate():
            models, notes = choice.load(resumed_models(Path(target)) if options.resume else ())
        for note in notes:
            report.warn(note)
        if (time := part.still()) is not None:
            opened = stdin() if source == "-" else source
            still.write(opened, Path(target), models, at=time, tonemap=part.tonemap, overwrite=options.overwrite)
            report.say(f"{target}: before on the left, after on the right")
            return
        batch = Batch(
            tuple(models), encoder, settings, stdout_suffix, report, options, by_work=encoding.segment is None
        )
        chosen, folder = pairs(source, target, suffix)
        if passed := not_searched(source):
            report.warn(passed)
        code = batch.run(chosen, folder)
    if code:
        raise typer.Exit(code)


def _check_names(more: list[str]) -> None:
    """Raise SettingsError where a shell has replaced a glob by many names."""
    if more:
        raise SettingsError(
            f"{2 + len(more)} arguments, where IN and OUT are two; for several inputs put the glob in quotes, "
            "upres 'clips/*.mp4' upscaled/, or name their folder, upres clips/ upscaled/"
        )
