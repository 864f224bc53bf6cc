"""The command line: `upres IN OUT`, and commands beside it. Exit codes are those of the error tree; see `upres --help`."""

import os
import re
import sys
from collections.abc import Callable
from importlib.metadata import entry_points, version
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from upres.engine.core.errors import SettingsError, UpresError

from . import info
from .bench import bench
from .flags import in_flags
from .machine.doctor import doctor
from .machine.selftest import selftest
from .machine.tune import tune
from .run import run

HELP = """Upscale video two to four times while it streams.

upres in.mp4 out.mp4                      four times as wide and high

upres in.mp4 try.mp4 --duration 3         only the first three seconds

upres in.mp4 out.mp4 --model NAME         another one of `upres models`

upres in.mp4 out.mp4 --resume             continue an interrupted run

All options of it: `upres run --help`. Which model and pre-filter a clip needs: `upres probe in.mp4`.
"""
EPILOG = (
    "Exit codes: 0 done; 1 something unexpected; 2 settings; 3 the source; 4 the model; 5 the target; 6 the log; 7 the server; "
    "130 interrupted. With several inputs: that of the first failure."
)
PANELS = {
    "Local": ("run", "probe", "bench", "tune", "doctor", "selftest", "licenses"),
    "Server": ("serve", "keys"),
    "Client": ("stream", "submit", "jobs", "watch", "get", "cancel"),
    "Models": ("models", "pull", "export", "warm", "cache"),
}
OPTIONS = {"-h", "--help", "--version", "--install-completion", "--show-completion"}


class Command(TyperCommand):
    """A command whose help shows no type beside flags, since they take no value."""

    def get_params(self, ctx: Any) -> list[Any]:  # noqa: ANN401 - the parser inside Typer has no public types
        """List the parameters."""
        return _flags_bare(super().get_params(ctx))


class Group(TyperGroup):
    """A group of commands with the same help."""

    def get_params(self, ctx: Any) -> list[Any]:  # noqa: ANN401
        """List the parameters."""
        return _flags_bare(super().get_params(ctx))


def build() -> typer.Typer:
    """Collect all commands. Those of other packages are found by name, so that nothing that runs imports the exporters."""
    names = {"help_option_names": ["-h", "--help"]}
    app = typer.Typer(
        cls=Group, no_args_is_help=True, epilog=EPILOG, pretty_exceptions_enable=False, context_settings=names
    )
    app.callback(help=HELP, options_metavar="IN OUT [OPTIONS]", subcommand_metavar="| COMMAND …")(_options)
    commands: dict[str, Any] = {"run": run, "bench": bench, "tune": tune, "doctor": doctor, "selftest": selftest}
    commands |= {command.__name__: command for command in (info.models, info.probe, info.licenses)}
    commands |= {entry.name: entry.load() for entry in entry_points(group="upres.commands")}
    for panel, members in PANELS.items():
        for name in members:
            if name in commands:
                _add(app, name, commands.pop(name), panel)
    for name, command in commands.items():  # of packages installed beside this one
        _add(app, name, command, None)
    return app


def follow(app: typer.Typer, args: list[str]) -> None:
    """Run a command line; every error of ours ends in one message and its exit code."""
    commands = {command.name for command in app.registered_commands} | {group.name for group in app.registered_groups}
    if args and args[0] not in commands | OPTIONS and not _mistyped(args[0]):
        args = ["run", *args]
    try:
        app(args, prog_name="upres")
    except UpresError as error:
        typer.secho(f"upres: {in_flags(str(error))}", fg="red", err=True)
        for note in getattr(error, "__notes__", ()):
            typer.echo(f"  {in_flags(note)}", err=True)
        sys.exit(error.exit_code)
    except ModuleNotFoundError as error:
        if args[0] not in PANELS["Server"] + PANELS["Client"] or (error.name or "").startswith("upres"):
            raise
        typer.secho(
            f"upres: {args[0]} needs {error.name}; install it with: pip install 'upres[service]'", fg="red", err=True
        )
        sys.exit(SettingsError.exit_code)


def _add(app: typer.Typer, name: str, command: Callable[..., Any] | typer.Typer, panel: str | None) -> None:
    if not isinstance(command, typer.Typer):
        settings = {"allow_extra_args": name == "run"}
        app.command(name, cls=Command, rich_help_panel=panel, context_settings=settings)(command)
        return
    for inner in command.registered_commands:
        inner.cls = Command
    app.add_typer(command, name=name, cls=Group, rich_help_panel=panel)


def _flags_bare(parameters: list[Any]) -> list[Any]:
    for parameter in parameters:
        if getattr(parameter, "is_flag", False):
            parameter.metavar = ""
    return parameters


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
    """Hold the options beside the commands."""
