"""`upres tune`: the fastest way to run a network on this machine, measured and kept for `--runtime auto`."""

import json as jsonlib
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
Size = Annotated[str, typer.Option(metavar="WxH", help="Size of the frames that go in, as 1280x720.")]


def tune(
    size: Size,
    model: Annotated[str, typer.Option("--model", "-m", help="A model or network; see `upres models`.")] = (
        "RealESRGAN_Vid_x4"
    ),
    content: Annotated[
        str, typer.Option(help="auto, photo, animation or live: which network inside a model.")
    ] = "auto",
    seconds: Annotated[
        float, typer.Option(min=0.1, max=60, help="To measure each candidate for, loading apart.")
    ] = 3.0,
    json: Annotated[bool, typer.Option("--json", help="The table as JSON instead of text.")] = False,
) -> None:
    """Measure every runtime, precision and tile size on frames of a size; `--runtime auto` then takes the fastest."""
    width, height = parsed(size)
    network = registry.choose(model, content).network
    if network in NETWORKS and NETWORKS[network].family in SESSIONS:
        raise ModelError(
            f"{network} runs on ONNX Runtime alone, so there is nothing to choose; tune measures RealESRGAN"
        )
    shown = (lambda name, outcome: None) if json else (lambda name, outcome: typer.echo(line(name, outcome)))
    table = tuning.tune(network, width, height, seconds=seconds, say=shown)
    path = tuned.write(table)
    if json:
        typer.echo(jsonlib.dumps(tuned.document(table), indent=2))
        return
    for quality in QUALITIES:
        typer.echo(f"--quality {quality}: {chosen(table, quality)}")
    typer.echo(f"written to {path}; it counts until the versions of what runs graphs change")


def chosen(table: Table, quality: str) -> str:
    """Say what `--runtime auto` takes for a quality from now on."""
    row = table.best(quality)
    return tuning.name_of(row.choice) if row else "nothing reaches it; the preferred runtime, as before"


def line(name: str, outcome: Row | str) -> str:
    """Write a candidate as a line for people."""
    if isinstance(outcome, str):
        return f"{name:36} cannot run: {outcome}"
    psnr = "equal" if outcome.psnr is None else f"{outcome.psnr:.1f} dB"
    about = "about " if outcome.estimated else ""
    return (
        f"{name:36} {about}{number(outcome.fps, 3)} frames/s, {number(1e3 * outcome.latency, 4)} ms a frame, "
        f"{outcome.memory / 1e9:.2f} GB, {psnr}; {outcome.report}"
    )


def parsed(size: str) -> tuple[int, int]:
    """Read WxH; SettingsError where it is no size of a frame."""
    width, x, height = size.lower().partition("x")
    if not (x and width.isdecimal() and height.isdecimal() and 1 <= int(width) <= LONGEST_SIDE >= int(height) >= 1):
        raise SettingsError(f"--size must be WxH in pixels, as 1280x720, at most {LONGEST_SIDE} a side; got {size!r}")
    return int(width), int(height)
