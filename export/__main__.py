"""`python -m upres.export`: the exporters' own checks."""

import tempfile
from pathlib import Path
from typing import Annotated

import typer
from upres.engine.errors import UpresError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def main() -> None:
    """Checks of the exporters, for those who work on them."""


@app.command()
def flashvsr_check(
    weights: Annotated[Path, typer.Option(help="All weights of a configuration, one .npz.")],
    golden: Annotated[Path, typer.Option(help="What the public implementation computed from them, one .npz.")],
    config: Annotated[Path, typer.Option(help="The configuration, JSON.")],
) -> None:
    """Compare FlashVSR in PyTorch and as ONNX with a numeric reference; exits 1 where a tolerance is exceeded."""
    from .flashvsr_check import compare, read_golden, read_heads
    from .flashvsr_weights import read_npz

    failed = 0
    try:
        weight_set = read_npz(weights, heads=read_heads(config))
        with tempfile.TemporaryDirectory() as folder:
            for difference in compare(weight_set, read_golden(golden), Path(folder)):
                failed += not difference.passes
                verdict = "ok  " if difference.passes else "FAIL"
                line = f"{verdict} {difference.name:22} {difference.value:.3e} (<= {difference.tolerance:g})  {difference.note}"
                typer.echo(line.rstrip())
    except UpresError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(error.exit_code) from error
    typer.echo(f"{failed} over tolerance" if failed else "all within tolerance")
    raise typer.Exit(1 if failed else 0)


if __name__ == "__main__":
    app()
