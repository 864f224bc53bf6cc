"""The commands `upres serve`, `keys`, `submit`, `watch`, `get`, `cancel` and `stream`, as the command line finds them by name.

Nothing of the service is imported before a command runs, so that the other commands start fast and without its extra.
"""

import asyncio
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from .options import given

if TYPE_CHECKING:
    from upres.v2 import upscale_pb2 as pb

    from .client import Client
    from .keys import Keys
    from .settings import Settings

keys = typer.Typer(help="Make, show and revoke the API keys of a server on this machine.", no_args_is_help=True)

Server = Annotated[str, typer.Option("--server", envvar="UPRES_SERVER", help="HOST:PORT of a server's gRPC.")]
ApiKey = Annotated[str, typer.Option("--key", envvar="UPRES_KEY", help="An API key of that server.")]
Tls = Annotated[bool, typer.Option("--tls", help="The server speaks TLS.")]
Ca = Annotated[
    Path | None,
    typer.Option("--ca", exists=True, dir_okay=False, help="PEM of whom to trust, with TLS; else the system's."),
]
Config = Annotated[Path | None, typer.Option("--config", help="A TOML file; UPRES_… in the environment go before it.")]
Id = Annotated[str, typer.Argument(help="The job's request_id.")]
Model = Annotated[str, typer.Option("--model", "-m", help="A model's slug.")]
Scale = Annotated[int | None, typer.Option(help="For models with a range of scales.")]
Content = Annotated[Literal["auto", "photo", "animation"], typer.Option(help="Which kind of network fits.")]
Crf = Annotated[int, typer.Option(min=0, max=51, help="Quality of the encoding; less is better and larger.")]
Prefilters = Annotated[list[str] | None, typer.Option("--prefilter", help="Before enlarging; can be given often.")]
Delivery = Annotated[
    Literal["segments", "frames"] | None, typer.Option(help="What is sent back at once; segments, or frames if live.")
]
Live = Annotated[bool, typer.Option("--live", help="The source does not end by itself, and is not kept by the server.")]
WhenSlow = Annotated[Literal["wait", "drop"], typer.Option(help="With --live: what happens when this end is too slow.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a target that exists.")]
Split = Annotated[bool, typer.Option("--split", help="Cut at shots; lifts the limit on length.")]

DEFAULT_SERVER = "127.0.0.1:8081"
DEFAULT_MODEL = "RealESRGAN_Vid_x4"


def serve(config: Config = None) -> None:
    """Serve the v2 HTTP API and gRPC until SIGTERM. The first start prints an API key, once."""
    from . import logs
    from .server import serve as run

    settings = _settings(config)
    logs.configure(settings.log_format)
    asyncio.run(run(settings, typer.echo))


@keys.command()
def add(name: Annotated[str, typer.Argument(help="Whose key it is.")], config: Config = None) -> None:
    """Make a key and print it; it is not shown again."""
    typer.echo(_keys(_settings(config)).add(name))


@keys.command("list")
def show(config: Config = None) -> None:
    """List the keys' names."""
    for key in _keys(_settings(config)).all():
        typer.echo(f"{key.name}{'' if key.revoked_at is None else ' (revoked)'}")


@keys.command()
def revoke(name: Annotated[str, typer.Argument(help="Whose key it was.")], config: Config = None) -> None:
    """Take a key out of use at once."""
    _keys(_settings(config)).revoke(name)


def _client(*, server: Server = DEFAULT_SERVER, key: ApiKey = "", tls: Tls = False, ca: Ca = None) -> "Client":
    import grpc

    from .client import Client

    if not key:
        raise typer.BadParameter("an API key is needed: --key, or UPRES_KEY in the environment")
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    roots = ca.read_bytes() if ca else None
    return Client(server, key, credentials=grpc.ssl_channel_credentials(roots) if tls or ca else None)


def _config(
    *,
    model: Model = DEFAULT_MODEL,
    scale: Scale = None,
    content: Content = "auto",
    crf: Crf = 18,
    prefilter: Prefilters = None,
    split: Split = False,
) -> "pb.UpscaleConfig":
    from upres.v2 import upscale_pb2 as pb

    return pb.UpscaleConfig(model=model, scale=scale, content=content, crf=crf, prefilters=prefilter, split=split)


@given(client=_client, config=_config)
def submit(
    source: Annotated[Path, typer.Argument(exists=True, dir_okay=False)],
    *,
    client: "Client",
    config: "pb.UpscaleConfig",
) -> None:
    """Upload a clip as a job and print its request_id."""
    with client:
        typer.echo(client.submit(source, config).request_id)


@given(client=_client)
def watch(request_id: Id, *, client: "Client") -> None:
    """Show a job's progress until it has ended."""
    with client:
        _ended(client, request_id)
    typer.echo(f"{request_id}: done", err=True)


@given(client=_client)
def get(
    request_id: Id,
    target: Annotated[Path, typer.Argument(help="Where the result goes.")],
    *,
    client: "Client",
    overwrite: Overwrite = False,
) -> None:
    """Wait for a job and download its result."""
    _check_free(target, overwrite=overwrite)
    with client:
        job = _ended(client, request_id)
        client.download(request_id, target)
    _done(target, job)


@given(client=_client)
def cancel(request_id: Id, *, client: "Client") -> None:
    """End a job now."""
    with client:
        client.cancel(request_id)
    typer.echo(f"{request_id}: cancelled", err=True)


@given(client=_client, config=_config)
def stream(
    source: Annotated[Path, typer.Argument(help="A clip, or - for stdin.", allow_dash=True)],
    target: Annotated[Path, typer.Argument(help="Where the result goes.")],
    *,
    client: "Client",
    config: "pb.UpscaleConfig",
    delivery: Delivery = None,
    live: Live = False,
    when_slow: WhenSlow = "wait",
    overwrite: Overwrite = False,
) -> None:
    """Upscale on a server while the source is sent; goes on through cuts and restarts, unless live, and joins the result here."""
    from upres.v2 import upscale_pb2 as pb

    from .assembly import Assembly
    from .batch import stdin

    _check_free(target, overwrite=overwrite)
    if delivery is not None:
        config.delivery = pb.DELIVERY_FRAMES if delivery == "frames" else pb.DELIVERY_SEGMENTS
    config.live, config.when_slow = live, pb.WHEN_SLOW_DROP if when_slow == "drop" else pb.WHEN_SLOW_WAIT
    with (
        client,
        Assembly(target) as assembly,
        _bar("sending") as bar,
        nullcontext(stdin().raw) if str(source) == "-" else source.open("rb") as file,
    ):
        for part in client.stream(file, config):
            match part:
                case pb.TrackInit():
                    assembly.add_track(part)
                case pb.Fragment():
                    assembly.append(part)
                case pb.Dropped():
                    typer.echo(f"{part.frames} frames of {part.track} were lost: this end was too slow", err=True)
                case pb.Progress():
                    bar.show(f"{part.totals.frames_out} frames", part.percent)
                    bar.warn(part.warnings)
                case pb.Job() as job:
                    _check(job)
        assembly.join()
    _done(target, job)


class _bar:
    """A progress bar on a terminal, nothing elsewhere; and warnings, each once."""

    def __init__(self, text: str) -> None:
        from rich.console import Console
        from rich.progress import Progress

        self._progress = Progress(console=Console(stderr=True), disable=not sys.stderr.isatty())
        self._task = self._progress.add_task(text, total=100.0)
        self._warned = 0

    def __enter__(self) -> "_bar":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, text: str, percent: float) -> None:
        """Show how far it is."""
        self._progress.update(self._task, description=text, completed=percent)

    def warn(self, warnings: Sequence[str]) -> None:
        """Tell what is new among all warnings so far."""
        for warning in warnings[self._warned :]:
            typer.echo(f"note: {warning}", err=True)
        self._warned = len(warnings)


def _settings(config: Path | None) -> "Settings":
    from .settings import load

    return load(config)


def _keys(settings: "Settings") -> "Keys":
    from .keys import Keys
    from .store import Store

    settings.state.mkdir(parents=True, exist_ok=True, mode=0o700)
    return Keys(Store(settings.database_url))


def _check_free(target: Path, *, overwrite: bool) -> None:
    """TargetError where a file would be replaced without having been asked for."""
    from upres.engine.errors import TargetError

    if target.exists() and not overwrite:
        raise TargetError(f"{target}: exists already; --overwrite replaces it")


def _ended(client: "Client", request_id: str) -> "pb.Job":
    """Show a job's progress until it has ended; RemoteError where it has not ended well."""
    with _bar("waiting") as bar:
        for job in client.watch(request_id):
            bar.show(_word(job), job.progress)
            bar.warn(job.warnings)
    _check(job)
    return job


def _done(target: Path, job: "pb.Job") -> None:
    typer.echo(f"{target}: {job.totals.frames_in} frames in, {job.totals.frames_out} out", err=True)


def _word(job: "pb.Job") -> str:
    from upres.v2 import upscale_pb2 as pb

    return pb.Job.Status.Name(job.status).removeprefix("STATUS_").lower()


def _check(job: "pb.Job") -> None:
    """RemoteError where a job has not ended well."""
    from upres.v2 import upscale_pb2 as pb

    from .errors import RemoteError

    if job.status == pb.Job.STATUS_ERROR:
        again = "; it may be submitted again" if job.error.retryable else ""
        raise RemoteError(f"the job failed: {job.error.message} ({job.error.reason}){again}")
