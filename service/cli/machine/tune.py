"""`upres tune`: measure the fastest way to run a network on this machine, and save it for `--runtime auto`."""

import json as jsonlib
import math
from typing import Annotated

import typer

from upres.engine.core.errors import ModelError, SettingsError
from upres.engine.core.text import number
from upres.engine.models import registry, tuned
from upres.engine.models.catalog import NETWORKS
from upres.engine.models.manifest import QUALITIES
from upres.engine.models.registry import SESSIONS
from upres.engine.models.tuned import Row, Table
from upres.engine.tuning import tune as tuning

LONGEST_SIDE = 8192
Size = Annotated[str, typer.Option(metavar="WxH", help="Size of the input frames, such as 1280x720.")]


def tune(
    size: Size,
    model: Annotated[str, typer.Option("--model", "-m", help="A model or network; see `upres models`.")] = (
        "RealESRGAN_Vid_x4"
    ),
    content: Annotated[
        str, typer.Option(help="auto, photo, animation or live: which network of the model to use.")
    ] = "auto",
    seconds: Annotated[
        float, typer.Option(min=0.1, max=60, help="Time to measure each candidate, without loading.")
    ] = 3.0,
    json: Annotated[bool, typer.Option("--json", help="Print the table as JSON instead of text.")] = False,
) -> None:
    """Measure every runtime, precision and tile size on frames of a size; `--runtime auto` then uses the fastest.

    It does so for frames with a quarter to four times as many pixels. Servers, live sources and programs load models before they
    know the size; they use measurements of at least 320x180. A later measurement of the same network replaces this one.
    """
    width, height = parse_size(size)
    network = registry.choose(model, content).network
    if network in NETWORKS and NETWORKS[network].family in SESSIONS:
        raise ModelError(
            f"{network} runs on ONNX Runtime only, so there is nothing to choose; tune measures RealESRGAN"
        )
    shown = (lambda name, outcome: None) if json else (lambda name, outcome: typer.echo(format_line(name, outcome)))
    table = tuning.tune(network, width, height, seconds=seconds, report=shown)
    path = tuned.write(table)
    if json:
        typer.echo(jsonlib.dumps(tuned.document(table), indent=2))
        return
    for quality in QUALITIES:
        typer.echo(f"--quality {quality}: {describe_choice(table, quality)}")
    typer.echo(f"written to {path}; until the versions of the runtimes change, it decides for {describe_sizes(table)}")


def describe_choice(table: Table, quality: str) -> str:
    """Return what `--runtime auto` uses for a quality from now on."""
    row = table.best(quality)
    return tuning.name_of(row.choice) if row else "no candidate reaches it; the preferred runtime is used, as before"


def describe_sizes(table: Table) -> str:
    """Return for which frames a table decides, in words."""
    side = math.sqrt(tuned.AREA_FACTOR)
    least, most = (f"{table.width * by:.0f}x{table.height * by:.0f}" for by in (1 / side, side))
    typical = "{}x{}".format(*tuned.TYPICAL)
    others = "servers, live sources and programs, which load models before they know the size"
    if not table.covers(None):
        return f"frames from {least} to {most} in area, but not for {others}: measure at least {typical} for those"
    return f"frames from {least} to {most} in area, and for {others}"


def format_line(name: str, outcome: Row | str) -> str:
    """Format a candidate as one line for people."""
    if isinstance(outcome, str):
        return f"{name:36} cannot run: {outcome}"
    psnr = "equal" if outcome.psnr is None else f"{outcome.psnr:.1f} dB"
    about = "about " if outcome.estimated else ""
    return (
        f"{name:36} {about}{number(outcome.fps, 3)} frames/s, {number(1e3 * outcome.latency, 4)} ms per frame, "
        f"{outcome.memory / 1e9:.2f} GB, {psnr}; {outcome.report}"
    )


def parse_size(size: str) -> tuple[int, int]:
    """Parse WxH; raises SettingsError if it is not a valid frame size."""
    width, x, height = size.lower().partition("x")
    if not (x and width.isdecimal() and height.isdecimal() and 1 <= int(width) <= LONGEST_SIDE >= int(height) >= 1):
        raise SettingsError(
            f"--size must be WxH in pixels, such as 1280x720, at most {LONGEST_SIDE} per side; got {size!r}"
        )
    return int(width), int(height)
