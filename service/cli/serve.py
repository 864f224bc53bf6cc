"""The operator's commands `upres serve` and `upres keys`, which are registered as entry points.

The service is not imported before a command runs, so that the other commands start fast and work without its dependencies.
"""

import asyncio
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from upres.engine.core.errors import SettingsError

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
    from upres.service.server.process import serve as run
    from upres.service.server.settings import mistyped

    for note in mistyped(os.environ):
        typer.echo(f"note: {note}", err=True)
    named = {"host": host, "http_port": port, "grpc_port": grpc_port}
    settings = _settings(config, **{name: value for name, value in named.items() if value is not None})
    job_logging.configure(settings.log_format)
    asyncio.run(run(settings, typer.echo))


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
