"""`upres selftest`: load, run, check and measure everything that can run on this machine, and write one file to send."""

import json
import platform
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from upres.engine.core.errors import ModelError, SettingsError, TargetError, os_errors_as
from upres.engine.machine import nvidia, packages
from upres.engine.machine.video_engines import video_engines
from upres.engine.models import tuned
from upres.engine.models.tuned import Row
from upres.engine.tuning import tune as tuning
from upres.engine.tuning.trial import REFERENCE

from .doctor import findings
from .tune import format_line, parse_size

NETWORKS = ("realesr-animevideov3-x2", "realesr-animevideov3-x4")


def selftest(
    device: Annotated[
        bool, typer.Option("--device", help="Test the device's runtimes on the included networks.")
    ] = False,
    size: Annotated[str, typer.Option(metavar="WxH", help="Size of the input frames.")] = "640x360",
    seconds: Annotated[
        float, typer.Option(min=0.1, max=60, help="Time to measure each runtime, without loading.")
    ] = 2.0,
    out: Annotated[Path, typer.Option(help="The JSON file to write.")] = Path("upres-selftest.json"),
) -> None:
    """Load, run, check and measure all runtimes; writes JSON to send to the maintainers. Exits with 1 if a result is wrong."""
    if not device:
        raise SettingsError("choose what to test: upres selftest --device")
    width, height = parse_size(size)
    driver, installed, engines = nvidia.driver(), packages.versions(), video_engines()
    if driver.gpus:
        typer.echo(f"GPUs: {', '.join(gpu.name for gpu in driver.gpus)}")
    else:
        typer.echo(f"no GPU to test ({driver.problem}); testing the CPU's runtimes")
    all_findings = list(findings(driver, installed, engines))
    results = [_test_network(network, width, height, seconds) for network in NETWORKS]
    wrong = [problem for result in results for problem in result["wrong"]]
    document = {
        **tuned.stamp(),
        "when": tuned.now(),
        "system": platform.platform(),
        "python": sys.version,
        "driver": asdict(driver),
        "doctor": [asdict(finding) for finding in all_findings],
        "results": results,
        "wrong": wrong,
    }
    with os_errors_as(out, TargetError):
        out.write_text(json.dumps(document, indent=2) + "\n")
    typer.echo(
        f"written to {out}; it lists this machine's processor, GPUs and versions, and nothing personal: please send it"
    )
    if wrong:
        raise typer.Exit(1)


def _test_network(network: str, width: int, height: int, seconds: float) -> dict[str, Any]:
    """Measure a network on every available runtime, with the usual tile size, and check its results."""
    typer.echo(f"{network}, frames of {width}x{height}:")
    try:
        table = tuning.tune(network, width, height, seconds=seconds, tiles=(REFERENCE.tile,), report=_print_row)
    except ModelError as error:
        typer.secho(f"{network}: {error}", fg="red")
        return {"network": network, "rows": [], "failed": {}, "wrong": [f"{network}: {error}"]}
    wrong = [f"{tuning.name_of(row.choice)}: {row.psnr:.1f} dB is too low" for row in table.rows if not row.right]
    wrong += [f"{name}: {reason}" for name, reason in table.failed.items()]
    for problem in wrong:
        typer.secho(f"{network}: {problem}", fg="red")
    return {**asdict(table), "wrong": wrong}


def _print_row(name: str, outcome: Row | str) -> None:
    typer.echo(format_line(name, outcome))
