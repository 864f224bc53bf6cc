"""The commands `upres export`, `upres pull` and `upres cache`, which are registered as entry points."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from upres.engine.models.catalog import full_name
from upres.engine.models.flashvsr.manifest import Attention, Precision, Version
from upres.engine.runtime.engines.manifest import Target
from upres.export.flashvsr import command

if TYPE_CHECKING:
    from upres.export.exporter import Exported

cache = typer.Typer(help="List and delete downloaded and exported networks.", no_args_is_help=True)
FLASHVSR = "FlashVSR_Tiny"
"""The help panel of FlashVSR's options."""
ENGINES = "Engines for NVIDIA GPUs"

Source = Annotated[
    Path,
    typer.Argument(
        metavar="SOURCE",
        help="A .pth, .safetensors or .param (with its .bin next to it), or a folder with one of them; or FlashVSR_Tiny. "
        "With --target: an installed model.",
    ),
]
Name = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="The network, if the file name does not identify it; for custom weights, any name.",
    ),
]
Out = Annotated[
    Path | None, typer.Option(metavar="DIR", help="The output folder; by default the cache, where upres searches.")
]
WeightsFolder = Annotated[
    Path | None, typer.Option(metavar="DIR", help="The folder of the weight files.", rich_help_panel=FLASHVSR)
]
WeightsVersion = Annotated[
    Version | None,
    typer.Option(help="The release, if the file names do not identify it.", rich_help_panel=FLASHVSR),
]
EnginePrecision = Annotated[
    Precision,
    typer.Option(help="Precision of the transformer; with --target, of the engine.", rich_help_panel=FLASHVSR),
]
Rule = Annotated[Attention, typer.Option(help="The published attention rule, or dense.", rich_help_panel=FLASHVSR)]
Verify = Annotated[bool, typer.Option("--verify", help="Compare the graphs with PyTorch.", rich_help_panel=FLASHVSR)]
Acceptance = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Check the export on --clip, and write a report here.", rich_help_panel=FLASHVSR),
]
Clip = Annotated[
    Path | None, typer.Option(metavar="FILE", help="A real clip for --acceptance.", rich_help_panel=FLASHVSR)
]
EngineTarget = Annotated[
    Target | None, typer.Option(help="Build engines of an installed model.", rich_help_panel=ENGINES)
]
Size = Annotated[
    str | None,
    typer.Option(metavar="WxH", help="Size of the frames; for FlashVSR, of a tile.", rich_help_panel=ENGINES),
]
Capability = Annotated[
    str | None,
    typer.Option(metavar="SM89", help="The GPUs to build for; by default the local GPU.", rich_help_panel=ENGINES),
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
    """Convert local weights to a verified graph that upres can run."""
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
        raise SettingsError("--size and --capability apply to engines, and need --target tensorrt or tensorrt-rtx")
    if full_name(str(source)) == command.SLUG and not source.exists():
        request = command.Request(weights, weights_version, precision, attention, verify, acceptance, clip)
        typer.echo(command.export(request, out))
        return
    path, name = resolve(source, network)
    typer.echo(_summary(run(path, name, out or cache_folder() / "models")))
    if out is None:
        typer.echo(f"run it with: upres IN OUT --model {name}")


def pull(
    network: Annotated[str, typer.Argument(metavar="NETWORK", help="A network from `upres models`.")],
    source: Annotated[
        Path | None, typer.Option("--from", metavar="DIR", help="A folder to search for the weights first.")
    ] = None,
) -> None:
    """Download a network that is not part of the package, and convert it to a verified graph in the cache."""
    from upres.export.fetch.pull import pull as run

    typer.echo(_summary(run(network, folder=source, report=lambda line: typer.echo(line, err=True))))


@cache.command("list", hidden=True)  # as for keys
@cache.command("ls")
def list_cache() -> None:
    """List the entries of the cache and their sizes."""
    from .cache import entries

    cached = entries()
    for entry in cached:
        typer.echo(f"{entry.bytes / 1e6:9.1f} MB  {entry.name}")
    if not cached:
        typer.echo("the cache is empty: no network has been pulled or exported", err=True)


@cache.command("rm")
def remove_from_cache(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Entries to delete, from `upres cache ls`.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Delete everything.")] = False,
) -> None:
    """Delete entries from the cache."""
    from upres.engine.core.errors import SettingsError

    from .cache import entries, remove

    if bool(names) == everything:
        raise SettingsError("either name the entries to delete (`upres cache ls` lists them) or use --all")
    chosen = [entry.name for entry in entries()] if everything else names or []
    typer.echo(f"{remove(chosen) / 1e6:.1f} MB deleted")


def _summary(exported: "Exported") -> str:
    """Return one line about an export and its difference from the reference."""
    manifest = exported.manifest
    psnr = (
        "identical"
        if manifest.psnr is None
        else f"{manifest.psnr:.1f} dB, differences of at most {manifest.max_difference}"
    )
    return f"{exported.graph} (against {manifest.reference}: {psnr})"
