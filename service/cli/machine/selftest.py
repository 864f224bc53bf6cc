"""`upres selftest`: build, load, run, check and measure everything that can run on this machine, and write one file to send."""

import json
import platform
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from upres.engine.core.errors import ModelError, SettingsError, TargetError, os_errors_as
from upres.engine.machine import nvidia, packages
from upres.engine.machine.video_engines import video_engines
from upres.engine.models import tuned
from upres.engine.models.tuned import Row
from upres.engine.runtime import registry as runtimes
from upres.engine.runtime.engines.manifest import MODULES as BUILT_TARGETS
from upres.engine.tuning import tune as tuning
from upres.engine.tuning.trial import REFERENCE

from .doctor import findings
from .tune import format_line, parse_size

NETWORKS = ("realesr-animevideov3-x2", "realesr-animevideov3-x4")
QUALITIES = ("high", "exact")
BUILD_SECONDS = 600.0  # timeout for building one engine


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
    """Build, load, run, check and measure all runtimes; writes JSON to send to the maintainers. Exits with 1 if any is wrong."""
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
    unbuilt = list(_build_engines(network, f"{width}x{height}"))
    try:
        table = tuning.tune(network, width, height, seconds=seconds, tiles=(REFERENCE.tile,), report=_print_row)
    except ModelError as error:
        typer.secho(f"{network}: {error}", fg="red")
        return {"network": network, "rows": [], "failed": {}, "wrong": [f"{network}: {error}"]}
    wrong = [f"{tuning.name_of(row.choice)}: {row.psnr:.1f} dB is too low" for row in table.rows if not row.right]
    wrong += unbuilt + [f"{name}: {reason}" for name, reason in table.failed.items()]
    for problem in wrong:
        typer.secho(f"{network}: {problem}", fg="red")
    return {**asdict(table), "wrong": wrong}


def _print_row(name: str, outcome: Row | str) -> None:
    typer.echo(format_line(name, outcome))


def _build_engines(network: str, size: str) -> Iterator[str]:
    """Build the network's missing engines, for every runtime that needs them and can run; yield what could not be built."""
    for runtime in runtimes.every():
        if runtime.name not in BUILT_TARGETS or runtime.unavailable() is not None:
            continue
        for quality in QUALITIES:
            words = ["warm", network, "--size", size, "--target", runtime.name, "--quality", quality]
            if problem := _run(words):
                yield f"upres {' '.join(words)}: {problem}"


def _run(words: list[str]) -> str | None:
    """Run a command of upres in a separate process, since building may crash; return why it failed, or None."""
    command = [sys.executable, "-m", "upres", *words]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=BUILD_SECONDS)
    except subprocess.TimeoutExpired:
        return f"it did not end within {BUILD_SECONDS:.0f} s"
    typer.echo(done.stdout, nl=False)
    return (
        done.stderr.strip().removeprefix("upres: ") or f"it ended with {done.returncode}" if done.returncode else None
    )
