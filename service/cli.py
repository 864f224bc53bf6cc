"""The command line: `upres IN OUT`, and commands beside it. Exit codes are those of the error tree; see `upres --help`."""

import signal
import sys
from importlib.metadata import entry_points
from types import FrameType

import typer
from upres.engine.errors import UpresError

from . import facts
from .bench import bench
from .run import run

HELP = "Enlarge video two to four times while it streams. `upres IN OUT` does it; `upres run --help` has its options."
EPILOG = (
    "Exit codes: 0 done; 1 something unexpected; 2 settings; 3 the source; 4 the model; 5 the target; 6 the log; "
    "130 interrupted. With several inputs: that of the first failure."
)


def build() -> typer.Typer:
    """All commands. Those of other rooms are found by name, so that nothing that runs imports the exporters."""
    app = typer.Typer(no_args_is_help=True, epilog=EPILOG, pretty_exceptions_enable=False, help=HELP)
    for command in (run, facts.models, facts.probe, bench, facts.doctor, facts.licenses):
        app.command(command.__name__)(command)
    for entry in entry_points(group="upres.commands"):
        command = entry.load()
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=entry.name)
        else:
            app.command(entry.name)(command)
    return app


def main() -> None:
    """Run the command line; every error ends in one message and its exit code."""
    signal.signal(signal.SIGTERM, _interrupt)
    app = build()
    args = sys.argv[1:]
    commands = {command.name for command in app.registered_commands} | {group.name for group in app.registered_groups}
    if args and args[0] not in commands and (args[0] == "-" or not args[0].startswith("-")):
        args = ["run", *args]
    try:
        app(args)
    except UpresError as error:
        typer.secho(f"upres: {error}", fg="red", err=True)
        for note in getattr(error, "__notes__", ()):
            typer.echo(f"  {note}", err=True)
        sys.exit(error.exit_code)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
