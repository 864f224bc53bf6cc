"""The command line: `upres IN OUT`, and further commands. Exit codes are those of the exception classes; see `upres --help`.

No command's module is imported before the command is called: the help is built from the summaries in PANELS.
"""

import errno
import json
import logging
import os
import re
import shlex
import sys
from collections.abc import Iterable
from importlib import import_module
from importlib.metadata import distribution, entry_points, version
from textwrap import fill
from typing import Annotated, Any, NoReturn
from urllib.parse import unquote, urlsplit

import typer
from typer.core import TyperCommand, TyperGroup

from upres.engine.core import errors
from upres.engine.core.errors import FetchFirstError, Interrupted, SettingsError, TargetError, UpresError

from . import signals
from .flags import equivalent_commands, equivalents, with_flags

HELP = """Upscale video two to four times while it streams.

upres in.mp4                              write in_x4.mp4 next to it, or in_x2.mp4 from 540p up
upres in.mp4 out.mp4 --scale 2            double the width and height
upres in.mp4 try.mp4 --duration 3         upscale only the first three seconds
upres a.mp4 b.mp4 clips/ upscaled/        upscale several files into a folder
upres photo.jpg                           write photo_x4.jpg, with the metadata of the original
upres in.mp4 out.gif                      write an animation, or numbered images: frame_%05d.png
upres in.mp4 out.mp4 --model NAME         use another model; `upres models` lists them
upres in.mp4 out.mp4 --resume             continue an interrupted run

For all options, see `upres run --help`. To find the right model and pre-filters for a clip, run `upres probe in.mp4`.
"""
EPILOG = (
    "Exit codes: 0 success; 1 unexpected error; 2 settings; 3 source; 4 model; 5 target; 6 log; 7 server; 130 interrupted. "
    "With several inputs, the exit code is that of the first failure. With --json, a failure is an object with the fields "
    "event (failed), text, exit_code and notes."
)
PANELS = {
    "Local": {
        "run": "Upscale IN into OUT; `upres IN OUT` is short for it.",
        "live": "Upscale a camera or a live stream as it arrives, and forward it.",
        "probe": "Show the properties of a video or image, and recommend a model.",
        "bench": "Measure speed, overlap, memory and PSNR on clips.",
        "tune": "Find the fastest way to run a network on this machine.",
        "doctor": "Report what this machine can run and what is missing.",
        "selftest": "Check and measure this machine's devices, and write a report to send.",
        "licenses": "Show the licences of the weights, the sample clip and the codecs.",
    },
    "Server": {
        "serve": "Serve the v2 HTTP API and gRPC until SIGTERM.",
        "keys": "Create, list and revoke the API keys of a server on this machine.",
    },
    "Client": {
        "stream": "Upscale on a server while the source is being sent.",
        "sources": "List the live streams that a server is configured to pull.",
        "submit": "Upload a clip as a job and print its request_id.",
        "jobs": "List the latest jobs of this key.",
        "watch": "Show a job's progress until it ends.",
        "get": "Wait for a job and download its result.",
        "cancel": "Cancel a job immediately.",
    },
    "Models": {
        "models": "List the models and their networks, and which are installed.",
        "pull": "Download networks and verify them.",
        "export": "Convert original weights to a network, or build an engine from one.",
        "warm": "Build the engines that models need on this machine's GPUs.",
        "cache": "List and delete downloaded and exported networks.",
    },
}
"""The summary of every command of this package, by heading of the help."""
COMMAND_FUNCTIONS = {
    "run": "upres.service.cli.run.command:run",
    "live": "upres.service.cli.live:live",
    "stream": "upres.service.cli.stream:stream",
    "sources": "upres.service.cli.remote:sources",
    "probe": "upres.service.cli.info:probe",
    "models": "upres.service.cli.info:models",
    "licenses": "upres.service.cli.info:licenses",
    "bench": "upres.service.cli.bench:bench",
    "tune": "upres.service.cli.machine.tune:tune",
    "doctor": "upres.service.cli.machine.doctor:doctor",
    "selftest": "upres.service.cli.machine.selftest:selftest",
}
"""The functions of the commands that are not registered as entry points."""
PATH_ERRORS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ENOTDIR, errno.ELOOP, errno.ENOSPC)
"""Error numbers that are about a path itself, regardless of the operation."""
UsageError: Any = typer.BadParameter.__bases__[0]  # Typer does not export this class
OPTIONS = {"-h", "--help", "-V", "--version", "--install-completion", "--show-completion"}


class Command(TyperCommand):
    """A command whose help shows no type for flags, since they take no value. Ctrl-C, which Typer hides, is reported."""

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 - the parser inside Typer has no public types
        """Run the command; raises Interrupted for Ctrl-C and SIGTERM."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            raise Interrupted("interrupted") from stop

    def get_params(self, ctx: Any) -> list[Any]:  # noqa: ANN401 - the parser inside Typer has no public types
        """List the parameters."""
        return _hide_flag_types(super().get_params(ctx))


class Group(TyperGroup):
    """A group of commands with the same help."""

    def get_params(self, ctx: Any) -> list[Any]:  # noqa: ANN401
        """List the parameters."""
        return _hide_flag_types(super().get_params(ctx))


class Root(Group):
    """The root group. Arguments that start with neither a command nor one of its own options are passed to `run`.

    Its help is plain text: the library that draws frames around help takes as long to import as everything else.
    """

    def __init__(self, **settings: Any) -> None:  # noqa: ANN401 - as TyperGroup's
        super().__init__(**settings)
        for commands in PANELS.values():
            for name, summary in commands.items():
                self.add_command(TyperCommand(name, help=summary))
        for entry in entry_points(group="upres.commands"):
            if entry.name not in self.commands:  # commands of other installed packages
                self.add_command(_load_command(entry.name))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401
        """Prepend `run` if the first argument is not a command, and accept `help` and `version` as the options of that name."""
        if args and args[0] in ("help", "version") and not os.path.exists(args[0]):  # noqa: PTH110 - as in _mistyped
            args = [*args[1:], f"--{args[0]}"]
        if args and args[0] not in {*self.commands, *OPTIONS} and not _mistyped(args[0]):
            args = ["run", *args]
        return super().parse_args(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401
        """Write the usage line and the description, then the options and commands by heading."""
        self.format_usage(ctx, formatter)
        formatter.write(f"\n{self.help}\n")
        headings: dict[str, list[tuple[str, str]]] = {
            "Options": [record for each in self.get_params(ctx) if (record := each.get_help_record(ctx))]
        }
        for name, command in self.commands.items():
            heading = next((panel for panel, names in PANELS.items() if name in names), "Others")
            headings.setdefault(heading, []).append((name, command.get_short_help_str(formatter.width)))
        for heading, rows in headings.items():
            with formatter.section(heading):
                formatter.write_dl(rows)
        formatter.write(f"\n{fill(EPILOG, formatter.width)}\n")

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:  # noqa: ANN401
        """Load the requested command."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, command and _load_command(str(name)), rest


def build() -> typer.Typer:
    """Build the command line."""
    names = {"help_option_names": ["-h", "--help"]}
    app = typer.Typer(
        cls=Root, no_args_is_help=True, epilog=EPILOG, pretty_exceptions_enable=False, context_settings=names
    )
    app.callback(help=HELP, options_metavar="IN [OUT] [OPTIONS]", subcommand_metavar="| COMMAND …")(_options)
    return app


def execute(app: typer.Typer, args: list[str]) -> None:
    """Run a command line and end the process; every error is reported as one message and ends it with its exit code.

    With --json, the message is an object on stdout; see docs/command-line.md.
    """
    logging.getLogger("av").setLevel(logging.ERROR)  # it warns about options that a muxer ignores
    logging.getLogger("PIL").setLevel(logging.CRITICAL)  # our own messages report damaged images
    try:
        sys.exit(app(args or ["--help"], prog_name="upres", standalone_mode=False))
    except UpresError as error:
        hints = (*_download_hint(error, args), *_equivalents(error, args))
        _fail(args, error.exit_code, with_flags(str(error)), *hints, *map(with_flags, getattr(error, "__notes__", ())))
    except UsageError as error:
        if not (message := error.format_message()):
            sys.exit(error.exit_code)
        where = error.ctx.command_path if error.ctx else _command_path(args)
        hints = (*_equivalents(error, args), *equivalent_commands(args[0]))
        _fail(args, error.exit_code, message, *hints, f"for its options: {where} --help")
    except typer.Abort:
        _fail(args, Interrupted.exit_code, "no answer, so nothing was done; use -y to start without being asked")
    except OSError as error:
        if error.filename is None and error.errno in errors.NO_SPACE:  # every other file's error names the file
            # What is left in the buffer would fail again at exit, and some versions of Python then end with 120.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            _fail(args, TargetError.exit_code, f"standard output: cannot be written ({errors.reason(error)})")
        if error.filename is None or error.errno not in PATH_ERRORS:
            raise
        _fail(args, UpresError.exit_code, f"{os.fsdecode(error.filename)}: cannot be used ({errors.reason(error)})")
    except ModuleNotFoundError as error:
        if args[0] not in (*PANELS["Server"], *PANELS["Client"]) or (error.name or "").startswith("upres"):
            raise
        missing = (error.name or "").partition(".")[0]
        needs = f"{args[0]} needs an optional dependency that is not installed ({missing})"
        _fail(args, SettingsError.exit_code, f"{needs}; run: {_install_service()}")


def _download_hint(error: UpresError, args: list[str]) -> list[str]:
    """Return the command that was typed, with its URL replaced by the file that the URL is downloaded to."""
    if not isinstance(error, FetchFirstError):
        return []
    return [f"then: {shlex.join(['upres', *(error.file if arg == error.address else arg for arg in args)])}"]


def _equivalents(error: Exception, args: list[str]) -> Iterable[str]:
    """Yield the `upres IN OUT` equivalents of other programs' options, which are misread as several flags or as a scale here."""
    runs = args and (args[0] == "run" or all(args[0] not in commands for commands in PANELS.values()))
    return equivalents(args) if runs and isinstance(error, UsageError | SettingsError) else ()


def _command_path(args: list[str]) -> str:
    """Return the command that was called, for errors in which the parser does not name it."""
    return f"upres {args[0] if any(args[0] in commands for commands in PANELS.values()) else 'run'}"


def _install_service() -> str:
    """Return the command that adds the service to this installation, from its origin: a folder or a package index."""
    origin = json.loads(distribution("upres").read_text("direct_url.json") or "{}")
    url = urlsplit(origin.get("url", ""))
    return f"pip install '{unquote(url.path) if url.scheme == 'file' else 'upres'}[service]'"


def _fail(args: list[str], code: int, message: str, *notes: str) -> NoReturn:
    """Report why a command failed, and end the process with an exit code.

    The report is text on stderr, or with --json an object on stdout, or on stderr if the result itself would go to stdout.
    """
    if "--json" in args:
        names = args[args[0] == "run" :]
        failure = {"text": message, "event": "failed", "exit_code": code, "notes": notes}
        typer.echo(json.dumps(failure), err=sys.stdout is None or "-" in names[1:])
        sys.exit(code)
    typer.secho(f"upres: {message}", fg="red", err=True)
    for note in notes:
        typer.echo(f"  {note}", err=True)
    sys.exit(code)


def _load_command(name: str) -> Any:  # noqa: ANN401
    """Import a command by name and convert its function, or its group of functions, to what the parser calls."""
    with signals.exiting_on_signals():
        command = _import_command(name)
    app = typer.Typer()
    app.callback()(lambda: None)  # without it, Typer would not build a group for a single command
    if isinstance(command, typer.Typer):
        for inner in command.registered_commands:
            inner.cls = Command
        app.add_typer(command, name=name, cls=Group)
    else:
        app.command(name, cls=Command)(command)
    return typer.main.get_group(app).commands[name]


def _import_command(name: str) -> Any:  # noqa: ANN401
    if name not in COMMAND_FUNCTIONS:
        return entry_points(group="upres.commands")[name].load()
    module, _, function = COMMAND_FUNCTIONS[name].partition(":")
    return getattr(import_module(module), function)


def _hide_flag_types(parameters: list[Any]) -> list[Any]:
    for parameter in parameters:
        if getattr(parameter, "is_flag", False):
            parameter.metavar = ""
    return parameters


def _mistyped(word: str) -> bool:
    """Report whether a first word is a mistyped command: it does not exist on disk and does not look like a path."""
    return re.fullmatch(r"\w[\w-]*", word) is not None and not os.path.exists(word)  # noqa: PTH110 - accepts too long names


def _version(requested: bool) -> None:
    if requested:
        typer.echo(f"upres {version('upres')}")
        raise typer.Exit


def _options(
    show_version: Annotated[
        bool, typer.Option("--version", "-V", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Declare the options of the root command."""
