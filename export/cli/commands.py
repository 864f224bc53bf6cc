"""The commands `upres export`, `upres pull` and `upres cache`, as the main command line finds them by name."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from upres.engine.models.catalog import full_name
from upres.engine.models.flashvsr.manifest import Attention, Precision, Version
from upres.engine.runtime.engines.manifest import Target
from upres.export.flashvsr import command

if TYPE_CHECKING:
    from upres.export.exporter import Exported

cache = typer.Typer(help="List and delete what was pulled and exported.", no_args_is_help=True)
FLASHVSR = "FlashVSR_Tiny"
"""The panel of its options in the help."""
ENGINES = "Engines for NVIDIA GPUs"

Source = Annotated[
    Path,
    typer.Argument(
        metavar="SOURCE",
        help="A .pth, .safetensors or .param (its .bin beside it), or a folder with one of them; or the word FlashVSR_Tiny. "
        "With --target: a model on this machine.",
    ),
]
Name = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="The network, where the file's name does not say it; for weights of your own, any name.",
    ),
]
Out = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Where to write; by default the cache, where upres looks.")
]
WeightsFolder = Annotated[
    Path | None, typer.Option(metavar="DIR", help="The folder of the weight files.", rich_help_panel=FLASHVSR)
]
WeightsVersion = Annotated[
    Version | None,
    typer.Option(help="Their release, where the names of the files do not say it.", rich_help_panel=FLASHVSR),
]
EnginePrecision = Annotated[
    Precision,
    typer.Option(help="Precision of the transformer; with --target, of the engine.", rich_help_panel=FLASHVSR),
]
Rule = Annotated[Attention, typer.Option(help="The published rule of attention, or dense.", rich_help_panel=FLASHVSR)]
Verify = Annotated[bool, typer.Option("--verify", help="Compare the graphs with PyTorch.", rich_help_panel=FLASHVSR)]
Acceptance = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Judge the export on --clip, and write a report there.", rich_help_panel=FLASHVSR),
]
Clip = Annotated[
    Path | None, typer.Option(metavar="FILE", help="A real clip for --acceptance.", rich_help_panel=FLASHVSR)
]
EngineTarget = Annotated[
    Target | None, typer.Option(help="Build engines of a model on this machine.", rich_help_panel=ENGINES)
]
Size = Annotated[
    str | None,
    typer.Option(metavar="WxH", help="Frames they are for; of FlashVSR a tile.", rich_help_panel=ENGINES),
]
Capability = Annotated[
    str | None,
    typer.Option(metavar="SM89", help="GPUs they are for, where not the one here.", rich_help_panel=ENGINES),
]


def export(
    source: Source,
    network: Name = None,
    out: Out = None,
    weights: WeightsFolder = None,
    weights_version: WeightsVersion = None,
    precision: EnginePrecision = "fp32",
    attention: Rule = "exact",
    verify: Verify = False,
    acceptance: Acceptance = None,
    clip: Clip = None,
    target: EngineTarget = None,
    size: Size = None,
    capability: Capability = None,
) -> None:
    """Convert weights on this machine to a verified graph that upres runs."""
    from upres.engine.core.errors import SettingsError
    from upres.engine.machine.cache import cache_folder
    from upres.export.exporter import export as run
    from upres.export.exporter import resolve

    if target:
        from upres.export.trt.command import Request, build

        for engine in build(Request(str(source), target, precision, size, capability, out)):
            typer.echo(f"{engine.path} ({engine.nbytes / 1e6:.1f} MB, {engine.seconds:.1f} s)")
        return
    if size or capability:
        raise SettingsError("--size and --capability are of engines, and need --target tensorrt or tensorrt-rtx")
    if full_name(str(source)) == command.SLUG and not source.exists():
        request = command.Request(weights, weights_version, precision, attention, verify, acceptance, clip)
        typer.echo(command.export(request, out))
        return
    path, name = resolve(source, network)
    typer.echo(_summary(run(path, name, out or cache_folder() / "models")))
    if out is None:
        typer.echo(f"run it with: upres IN OUT --model {name}")


def pull(
    network: Annotated[str, typer.Argument(metavar="NETWORK", help="The network, as `upres models` names it.")],
    source: Annotated[
        Path | None, typer.Option("--from", metavar="DIR", help="A folder that may hold the weights; tried first.")
    ] = None,
) -> None:
    """Download a network that does not come with the package, and convert it to a verified graph in the cache."""
    from upres.export.fetch.pull import pull as run

    typer.echo(_summary(run(network, folder=source, report=lambda line: typer.echo(line, err=True))))


@cache.command("ls")
def list_cache() -> None:
    """List what is in the cache, and its size."""
    from .cache import entries

    found = entries()
    for entry in found:
        typer.echo(f"{entry.bytes / 1e6:9.1f} MB  {entry.name}")
    if not found:
        typer.echo("the cache is empty: nothing was pulled or exported", err=True)


@cache.command("rm")
def remove_from_cache(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="What to delete, as `upres cache ls` names it.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Delete everything.")] = False,
) -> None:
    """Delete from the cache."""
    from upres.engine.core.errors import SettingsError

    from .cache import entries, remove

    if bool(names) == everything:
        raise SettingsError("name what to delete (`upres cache ls` lists it) or use --all, one of the two")
    chosen = [entry.name for entry in entries()] if everything else names or []
    typer.echo(f"{remove(chosen) / 1e6:.1f} MB deleted")


def _summary(exported: "Exported") -> str:
    """Describe what was exported and how close it is to its reference, in one line."""
    manifest = exported.manifest
    psnr = (
        "identical"
        if manifest.psnr is None
        else f"{manifest.psnr:.1f} dB, differences of at most {manifest.max_difference}"
    )
    return f"{exported.graph} (against {manifest.reference}: {psnr})"
