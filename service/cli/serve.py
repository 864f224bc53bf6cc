"""The operator's commands `upres serve` and `upres keys`, which are registered as entry points.

The service is not imported before a command runs, so that the other commands start fast and work without its dependencies.
"""

import asyncio
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from upres.engine.core.errors import SettingsError, UpresError

if TYPE_CHECKING:
    from upres.service.auth.api_keys import Keys
    from upres.service.server.settings import Settings

keys = typer.Typer(help="Create, list and revoke the API keys of a server on this machine.", no_args_is_help=True)

Config = Annotated[
    Path | None, typer.Option("--config", help="A TOML file; UPRES_… variables in the environment take precedence.")
]

ListSettings = Annotated[
    bool, typer.Option("--list-settings", help="Print every setting with its default, as Markdown, and exit.")
]


Host = Annotated[
    str | None, typer.Option(help="The address to listen on; 0.0.0.0 means all addresses of this machine.")
]
HttpPort = Annotated[int | None, typer.Option("--port", min=0, max=65535, help="The HTTP port; 8080 by default.")]
GrpcPort = Annotated[int | None, typer.Option(min=0, max=65535, help="The gRPC port; 8081 by default.")]


def serve(
    config: Config = None,
    host: Host = None,
    port: HttpPort = None,
    grpc_port: GrpcPort = None,
    *,
    list_settings: ListSettings = False,
) -> None:
    """Serve the v2 HTTP API and gRPC until SIGTERM. The first start creates an API key and prints it once."""
    if list_settings:
        from upres.service.server.settings_page import page

        typer.echo(page(), nl=False)
        return
    if not hasattr(socket, "AF_UNIX"):
        raise SettingsError("a server runs on Linux and macOS only; the other commands run on Windows too")
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # errors that matter are raised
    from upres.service.domain import job_logging
    from upres.service.server.process import logger
    from upres.service.server.process import serve as run
    from upres.service.server.settings import mistyped

    notes = mistyped(os.environ)
    named = {"host": host, "http_port": port, "grpc_port": grpc_port}
    try:
        settings = _settings(config, **{name: value for name, value in named.items() if value is not None})
    except SettingsError as error:
        for note in notes:
            error.add_note(f"note: {note}")
        raise
    job_logging.configure(settings.log_format)
    for note in notes:
        logger.warning("%s", note)
    try:
        asyncio.run(run(settings, _announcer(settings)))
    except UpresError as error:
        if job_logging.resolve(settings.log_format) == "text":
            raise
        logger.critical("%s", error)
        raise typer.Exit(error.exit_code) from error


def _announcer(settings: "Settings") -> Callable[[str], None]:
    """Return the function that writes lines for the operator, among them the first key, to stdout.

    They are JSON, like the log on stderr, if that is set, or if both go to the same file, pipe or journal.
    """
    from upres.service.domain import job_logging

    try:
        together = not os.isatty(1) and os.path.sameopenfile(1, 2)
    except OSError:  # one of them is closed
        together = False
    form = settings.log_format or (job_logging.resolve() if together else "text")
    return (lambda line: typer.echo(job_logging.as_json(line, __name__))) if form == "json" else typer.echo


@keys.command()
def add(name: Annotated[str, typer.Argument(help="The name of the key's owner.")], config: Config = None) -> None:
    """Create a key and print it; it is not shown again."""
    typer.echo(_keys(_settings(config)).add(name))


@keys.command("list")
def show(config: Config = None) -> None:
    """List the keys' names."""
    api_keys = _keys(_settings(config)).all()
    if not api_keys:
        typer.echo("there are no keys yet; create one with: upres keys add NAME", err=True)
    for key in api_keys:
        typer.echo(f"{key.name}{'' if key.revoked_at is None else ' (revoked)'}")


@keys.command()
def revoke(name: Annotated[str, typer.Argument(help="The name of the key's owner.")], config: Config = None) -> None:
    """Revoke a key immediately."""
    _keys(_settings(config)).revoke(name)
    typer.echo(f"{name}: revoked", err=True)


def _settings(config: Path | None, **named: str | int) -> "Settings":
    from upres.service.server.settings import load

    return load(config, **named)


def _keys(settings: "Settings") -> "Keys":
    from upres.service.auth.api_keys import Keys
    from upres.service.server.standby import make_state
    from upres.service.storage.job_store import Store

    make_state(settings.state)
    return Keys(Store(settings.database_url))
