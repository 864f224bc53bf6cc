"""The command line: `upres IN OUT`, and commands beside it. Exit codes are those of the error tree; see `upres --help`.

Nothing of a command is imported before it is called: the help is made from the lines below.
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
from typing import Annotated, Any
from urllib.parse import unquote, urlsplit

import typer
from typer.core import TyperCommand, TyperGroup

from upres.engine.core.errors import FetchFirstError, Interrupted, SettingsError, UpresError

from . import signals
from .flags import in_flags, meant

HELP = """Upscale video two to four times while it streams.

upres in.mp4                              into in_x4.mp4 beside it, or in_x2.mp4 from 540p up
upres in.mp4 out.mp4 --scale 2            twice as wide and high
upres in.mp4 try.mp4 --duration 3         only the first three seconds
upres a.mp4 b.mp4 clips/ upscaled/        several into a folder
upres photo.jpg                           an image into photo_x4.jpg, with all that it carries
upres in.mp4 out.gif                      or frame_%05d.png, numbered images
upres in.mp4 out.mp4 --model NAME         another one of `upres models`
upres in.mp4 out.mp4 --resume             continue an interrupted run

All options of it: `upres run --help`. Which model and pre-filter a clip needs: `upres probe in.mp4`.
"""
EPILOG = (
    "Exit codes: 0 done; 1 something unexpected; 2 settings; 3 the source; 4 the model; 5 the target; 6 the log; 7 the server; "
    "130 interrupted. With several inputs: that of the first failure."
)
PANELS = {
    "Local": {
        "run": "Upscale IN into OUT: what `upres IN OUT` does.",
        "live": "Upscale a camera or a stream as it comes, and send it on.",
        "probe": "Show what a video or an image holds, and advise on model and pre-filters.",
        "bench": "Measure speed, overlap, memory and PSNR on clips.",
        "tune": "Measure every way that this machine can run a network.",
        "doctor": "Say what this machine can run, and what is missing.",
        "selftest": "Compare and measure this machine's devices, into a file to send.",
        "licenses": "Show the licences of the weights, the sample clip and the codecs.",
    },
    "Server": {
        "serve": "Serve the v2 HTTP API and gRPC until SIGTERM.",
        "keys": "Make, show and revoke the API keys of a server on this machine.",
    },
    "Client": {
        "stream": "Upscale on a server while the source is sent.",
        "sources": "List the streams that a server pulls by itself.",
        "submit": "Upload a clip as a job and print its request_id.",
        "jobs": "List the latest jobs of this key.",
        "watch": "Show a job's progress until it has ended.",
        "get": "Wait for a job and download its result.",
        "cancel": "End a job now.",
    },
    "Models": {
        "models": "List the models, their networks, and which are on this machine.",
        "pull": "Get networks and check them.",
        "export": "Make a network from original weights, or an engine of one.",
        "warm": "Make the engines that models on this machine's GPUs need.",
        "cache": "List and delete what was pulled and exported.",
    },
}
"""Every command of this package with what its help says, by heading."""
OWN = {
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
"""Where commands are that are not found by an entry point."""
OF_PATHS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ENOTDIR, errno.ELOOP, errno.ENOSPC)
"""What a system says of a path, whatever is done with it."""
UsageError: Any = typer.BadParameter.__bases__[0]  # which Typer exports under no name
WORDS = {
    "upres IN [OUT]": ("upscale", "enhance", "convert", "process", "video", "image"),
    "upres probe": ("info", "inspect", "identify", "show"),
    "upres models": ("list", "ls"),
    "upres pull": ("download", "install", "fetch"),
    "upres serve": ("server", "start", "web", "gui", "ui", "api"),
}
"""What other programs call our commands."""
OPTIONS = {"-h", "--help", "-V", "--version", "--install-completion", "--show-completion"}


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


class Root(Group):
    """All commands. What is no command and no option of its own is what `run` takes.

    Its help is plain text: what draws frames around it takes as long to import as everything else.
    """

    def __init__(self, **settings: Any) -> None:  # noqa: ANN401 - as TyperGroup's
        super().__init__(**settings)
        for commands in PANELS.values():
            for name, summary in commands.items():
                self.add_command(TyperCommand(name, help=summary))
        for entry in entry_points(group="upres.commands"):
            if entry.name not in self.commands:  # of packages installed beside this one
                self.add_command(_loaded(entry.name))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401
        """Take what is no command for the arguments of `run`, and the two words that are options for these."""
        if args and args[0] in ("help", "version") and not os.path.exists(args[0]):  # noqa: PTH110 - as below
            args = [*args[1:], f"--{args[0]}"]
        if args and args[0] not in {*self.commands, *OPTIONS} and not _mistyped(args[0]):
            args = ["run", *args]
        return super().parse_args(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401
        """Write how it is called, then its options and commands by heading."""
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
        """Load the command that is called."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, command and _loaded(str(name)), rest


def build() -> typer.Typer:
    """Make the command line."""
    names = {"help_option_names": ["-h", "--help"]}
    app = typer.Typer(
        cls=Root, no_args_is_help=True, epilog=EPILOG, pretty_exceptions_enable=False, context_settings=names
    )
    app.callback(help=HELP, options_metavar="IN [OUT] [OPTIONS]", subcommand_metavar="| COMMAND …")(_options)
    return app


def follow(app: typer.Typer, args: list[str]) -> None:
    """Run a command line and end the process; every error ends in one message and its exit code."""
    logging.getLogger("av").setLevel(logging.ERROR)  # it warns of options that a muxer leaves alone
    logging.getLogger("PIL").setLevel(logging.CRITICAL)  # what it says of damaged images is in our own messages
    try:
        sys.exit(app(args or ["--help"], prog_name="upres", standalone_mode=False))
    except UpresError as error:
        _say(
            in_flags(str(error)),
            *_then(error, args),
            *_meant(error, args),
            *map(in_flags, getattr(error, "__notes__", ())),
        )
        sys.exit(error.exit_code)
    except UsageError as error:
        if message := error.format_message():
            where = error.ctx.command_path if error.ctx else _called(args)
            _say(message, *_meant(error, args), *_command(args), f"its options: {where} --help")
        sys.exit(error.exit_code)
    except typer.Abort:
        _say("not answered, so nothing was done; -y starts without asking")
        sys.exit(Interrupted.exit_code)
    except OSError as error:
        if error.filename is None or error.errno not in OF_PATHS:
            raise
        _say(f"{os.fsdecode(error.filename)}: cannot be used ({error.strerror})")
        sys.exit(UpresError.exit_code)
    except ModuleNotFoundError as error:
        if args[0] not in (*PANELS["Server"], *PANELS["Client"]) or (error.name or "").startswith("upres"):
            raise
        missing = (error.name or "").partition(".")[0]
        _say(f"{args[0]} needs what a plain install leaves out ({missing}); install it: {_install_service()}")
        sys.exit(SettingsError.exit_code)


def _then(error: UpresError, args: list[str]) -> list[str]:
    """Give the command that was typed with the name of the file that its address is fetched as."""
    if not isinstance(error, FetchFirstError):
        return []
    return [f"then: {shlex.join(['upres', *(error.file if arg == error.address else arg for arg in args)])}"]


def _meant(error: Exception, args: list[str]) -> Iterable[str]:
    """Say what other programs' options are in `upres IN OUT`, which are read as several or as a scale, or not at all."""
    runs = args and (args[0] == "run" or all(args[0] not in commands for commands in PANELS.values()))
    return meant(args) if runs and isinstance(error, UsageError | SettingsError) else ()


def _called(args: list[str]) -> str:
    """Name the command that was called, of which the parser of its options says nothing."""
    return f"upres {args[0] if any(args[0] in commands for commands in PANELS.values()) else 'run'}"


def _command(args: list[str]) -> Iterable[str]:
    """Name the command that a first word which is none stands for, in other programs."""
    return (f"here, that is `{name}`" for name, words in WORDS.items() if args[0] in words)


def _install_service() -> str:
    """Name the command that adds the service to this installation: from where it came, a folder or an index."""
    origin = json.loads(distribution("upres").read_text("direct_url.json") or "{}")
    url = urlsplit(origin.get("url", ""))
    return f"pip install '{unquote(url.path) if url.scheme == 'file' else 'upres'}[service]'"


def _say(message: str, *notes: str) -> None:
    typer.secho(f"upres: {message}", fg="red", err=True)
    for note in notes:
        typer.echo(f"  {note}", err=True)


def _loaded(name: str) -> Any:  # noqa: ANN401
    """Make a command from the function, or the group of functions, that it is."""
    with signals.immediate():
        command = _imported(name)
    app = typer.Typer()
    app.callback()(lambda: None)  # or a single command would not be one of a group
    if isinstance(command, typer.Typer):
        for inner in command.registered_commands:
            inner.cls = Command
        app.add_typer(command, name=name, cls=Group)
    else:
        app.command(name, cls=Command)(command)
    return typer.main.get_group(app).commands[name]


def _imported(name: str) -> Any:  # noqa: ANN401
    if name not in OWN:
        return entry_points(group="upres.commands")[name].load()
    module, _, function = OWN[name].partition(":")
    return getattr(import_module(module), function)


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
        bool, typer.Option("--version", "-V", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Hold the options beside the commands."""
