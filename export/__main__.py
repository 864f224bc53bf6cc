"""Entry point of the exporters' checks and measurements: `python -m upres.export`."""

import sys

import typer

from upres.engine.core.errors import UpresError
from upres.export.cli.checks import app

if __name__ == "__main__":
    try:
        app()
    except UpresError as error:
        typer.echo(str(error), err=True)
        sys.exit(error.exit_code)
