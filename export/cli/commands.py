"""The commands `upres export`, `upres pull` and `upres cache`, as the main command line finds them by name."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from upres.export.flashvsr import command
from upres.export.flashvsr.command import Attention, Precision, Version

if TYPE_CHECKING:
    from upres.export.exporter import Exported

cache = typer.Typer(help="Show and delete the networks that were pulled or exported.", no_args_is_help=True)


def export(
    source: Annotated[
        Path,
        typer.Argument(
            help="A .param with its .bin beside it, a .pth, a .safetensors, or their folder; or FlashVSR_Tiny."
        ),
    ],
    network: Annotated[
        str | None, typer.Option(help="Which network they are, where the file's name does not say.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Where to write; by default the cache, where upres looks.")] = None,
    weights: Annotated[Path | None, typer.Option(help="FlashVSR_Tiny: the folder of its weight files.")] = None,
    weights_version: Annotated[Version | None, typer.Option(help="FlashVSR_Tiny: which release they are.")] = None,
    precision: Annotated[Precision, typer.Option(help="FlashVSR_Tiny: of the transformer.")] = "fp32",
    attention: Annotated[Attention, typer.Option(help="FlashVSR_Tiny: the published rule, or dense.")] = "exact",
    verify: Annotated[bool, typer.Option("--verify", help="FlashVSR_Tiny: run the graphs against PyTorch.")] = False,
    acceptance: Annotated[
        Path | None, typer.Option(help="FlashVSR_Tiny: judge the export on --clip; the folder of the report.")
    ] = None,
    clip: Annotated[Path | None, typer.Option(help="FlashVSR_Tiny: a real clip, for --acceptance.")] = None,
) -> None:
    """Make weights on this machine into a verified graph that upres runs."""
    from upres.engine.models.manifest import cache_folder
    from upres.export.exporter import export as run
    from upres.export.exporter import resolve

    if str(source) == command.SLUG:
        request = command.Request(weights, weights_version, precision, attention, verify, acceptance, clip)
        typer.echo(command.export(request, out))
        return
    path, name = resolve(source, network)
    typer.echo(_said(run(path, name, out or cache_folder() / "models")))


def pull(
    network: Annotated[str, typer.Argument(help="The network, as `upres models` names it.")],
    source: Annotated[
        Path | None, typer.Option("--from", help="A folder that holds the weights; it is looked in first.")
    ] = None,
) -> None:
    """Get a network that does not come with the package, and make it into a verified graph in the cache."""
    from upres.export.fetch.pull import pull as run

    typer.echo(_said(run(network, folder=source, say=lambda line: typer.echo(line, err=True))))


@cache.command("ls")
def list_cache() -> None:
    """List what is in the cache, with its size."""
    from .cache import entries

    for entry in entries():
        typer.echo(f"{entry.bytes / 1e6:9.1f} MB  {entry.name}")


@cache.command("rm")
def remove_from_cache(
    names: Annotated[list[str] | None, typer.Argument(help="What to delete, as `upres cache ls` names it.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Delete all of it.")] = False,
) -> None:
    """Delete from the cache."""
    from upres.engine.core.errors import SettingsError

    from .cache import entries, remove

    if bool(names) == everything:
        raise SettingsError("name what to delete (upres cache ls shows it), or give --all; not both")
    chosen = [entry.name for entry in entries()] if everything else names or []
    typer.echo(f"{remove(chosen) / 1e6:.1f} MB deleted")


def _said(exported: "Exported") -> str:
    """One line on what was made and how near it is to its reference."""
    manifest = exported.manifest
    psnr = (
        "identical"
        if manifest.psnr is None
        else f"{manifest.psnr:.1f} dB, differences of at most {manifest.max_difference}"
    )
    return f"{exported.graph} (against {manifest.reference}: {psnr})"
