"""`upres warm`: build engines in advance, so that no job has to wait for one or run without one."""

from typing import Annotated

import typer

from upres.engine.runtime.engines.manifest import Target

Size = Annotated[
    list[str], typer.Option("--size", metavar="WxH", help="Size of the frames, such as 1280x720; repeatable.")
]


def warm(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model or network; see `upres models`.")],
    size: Size,
    target: Annotated[Target, typer.Option(help="The runtime of the engines, as in --runtime.")],
    quality: Annotated[str, typer.Option(help="high: engines in fp16; exact: in fp32.")] = "high",
) -> None:
    """Build missing or stale engines of a model on this machine, and run each once."""
    from upres.engine.core.errors import SettingsError
    from upres.engine.models import registry
    from upres.export.trt.command import SIZE
    from upres.export.trt.warm import PRECISIONS
    from upres.export.trt.warm import warm as make_ready

    wrong = [f"--size must be WxH, such as 1280x720, not {each}" for each in size if not SIZE.fullmatch(each)]
    if quality not in PRECISIONS:
        wrong.append(f"--quality must be {' or '.join(PRECISIONS)}, not {quality}")
    if wrong:
        raise SettingsError("; ".join(wrong))
    network = registry.choose(model).network
    for each in size:
        width, height = map(int, each.split("x"))
        built = False
        for engine in make_ready(network, target, quality, width, height):
            typer.echo(f"{engine.path} ({engine.nbytes / 1e6:.1f} MB, {engine.seconds:.1f} s)")
            built = True
        typer.echo(f"{network} {'is ready' if built else 'was already ready'} for frames of {each}")
