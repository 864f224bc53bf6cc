"""The command line: `upres IN OUT`, and commands beside it. Exit codes are those of the error tree; see `upres --help`."""

import os
import re
import sys
from importlib.metadata import entry_points, version
from typing import Annotated

import typer

from upres.engine.core.errors import UpresError

from . import info
from .bench import bench
from .run import run

HELP = """Enlarge video two to four times while it streams.

upres in.mp4 out.mp4                      four times larger

upres in.mp4 try.mp4 --duration 3         the first three seconds, to see

upres in.mp4 out.mp4 --model NAME         another one of `upres models`

upres in.mp4 out.mp4 --resume             go on where it was interrupted

All options of it: `upres run --help`. Which model and pre-filter a clip needs: `upres probe in.mp4`.
"""
EPILOG = (
    "Exit codes: 0 done; 1 something unexpected; 2 settings; 3 the source; 4 the model; 5 the target; 6 the log; 7 the server; "
    "130 interrupted. With several inputs: that of the first failure."
)


OPTIONS = {"-h", "--help", "--version", "--install-completion", "--show-completion"}


def build() -> typer.Typer:
    """All commands. Those of other rooms are found by name, so that nothing that runs imports the exporters."""
    names = {"help_option_names": ["-h", "--help"]}
    app = typer.Typer(no_args_is_help=True, epilog=EPILOG, pretty_exceptions_enable=False, context_settings=names)
    app.callback(help=HELP, options_metavar="IN OUT [OPTIONS]", subcommand_metavar="| COMMAND …")(_options)
    app.command("run", context_settings={"allow_extra_args": True})(run)
    for command in (info.models, info.probe, bench, info.doctor, info.licenses):
        app.command(command.__name__)(command)
    for entry in entry_points(group="upres.commands"):
        command = entry.load()
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=entry.name)
        else:
            app.command(entry.name)(command)
    return app


def follow(app: typer.Typer, args: list[str]) -> None:
    """Do what a command line asks; every error of ours ends in one message and its exit code."""
    commands = {command.name for command in app.registered_commands} | {group.name for group in app.registered_groups}
    if args and args[0] not in commands | OPTIONS and not _mistyped(args[0]):
        args = ["run", *args]
    try:
        app(args, prog_name="upres")
    except UpresError as error:
        typer.secho(f"upres: {error}", fg="red", err=True)
        for note in getattr(error, "__notes__", ()):
            typer.echo(f"  {note}", err=True)
        sys.exit(error.exit_code)


def _mistyped(word: str) -> bool:
    """Whether a first word that is no command was meant to be one: it is nothing on disk, and looks like no path."""
    return re.fullmatch(r"\w[\w-]*", word) is not None and not os.path.exists(word)  # noqa: PTH110 - no name is too long for it


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"upres {version('upres')}")
        raise typer.Exit


def _options(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Options beside the commands."""
