"""The client commands `upres submit`, `jobs`, `watch`, `get`, `cancel` and `sources`, and code that `stream` shares with them.

The service is not imported before a command runs, so that the other commands start fast and work without its dependencies.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from upres.engine.core.text import counted

from . import signals
from .options import Crf, Overwrite, Prefilters, Tonemap, parse_scale, with_options

if TYPE_CHECKING:
    from upres.service.client.sync import Client
    from upres.v2 import upscale_pb2 as pb


Server = Annotated[str, typer.Option("--server", envvar="UPRES_SERVER", help="HOST:PORT of a server's gRPC endpoint.")]
ApiKey = Annotated[str, typer.Option("--key", envvar="UPRES_KEY", help="An API key of that server.")]
Tls = Annotated[bool, typer.Option("--tls", help="Connect with TLS.")]
Ca = Annotated[
    Path | None,
    typer.Option(
        "--ca", exists=True, dir_okay=False, help="PEM file of the CA to trust with TLS; the system's CAs by default."
    ),
]
Id = Annotated[str, typer.Argument(metavar="ID", help="The job's request_id.")]
Model = Annotated[
    str | None,
    typer.Option("--model", "-m", help="x4, x2, flashvsr or a full slug; by default chosen by the scale, or x4."),
]
Scale = Annotated[
    int | None,
    typer.Option(
        "--scale",
        "-s",
        metavar="N",
        parser=parse_scale,
        help="2, 3 or 4: chooses the model, or the scale of a model that supports several.",
    ),
]
Chain = Annotated[str | None, typer.Option(help="Models one after the other, A,B; instead of --model.")]
Content = Annotated[
    Literal["auto", "photo", "animation", "live"], typer.Option(help="Which kind of network to use; live: a light one.")
]
Split = Annotated[bool, typer.Option("--split", help="Cut at shot boundaries; removes the limit on length.")]

DEFAULT_SERVER = "127.0.0.1:8081"


def connect(*, server: Server = DEFAULT_SERVER, key: ApiKey = "", tls: Tls = False, ca: Ca = None) -> "Client":
    """Connect to a server; raises SettingsError."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # errors that matter are raised
    import grpc

    from upres.engine.core.errors import SettingsError
    from upres.service.client.sync import Client

    if not key:
        raise SettingsError(
            "an API key is needed: --key, or UPRES_KEY in the environment; create one with `upres keys add NAME` on the server"
        )
    roots = ca.read_bytes() if ca else None
    if roots is not None and b"-----BEGIN CERTIFICATE-----" not in roots:
        raise SettingsError(f"{ca} contains no PEM certificate")
    return Client(server, key, credentials=grpc.ssl_channel_credentials(roots) if tls or ca else None)


def make_config(
    *,
    model: Model = None,
    chain: Chain = None,
    scale: Scale = None,
    content: Content = "auto",
    crf: Crf = 18,
    prefilter: Prefilters = None,
    split: Split = False,
    tonemap: Tonemap = False,
) -> "pb.UpscaleConfig":
    """Build a job's configuration from the options; raises SettingsError."""
    from upres.engine.core.errors import SettingsError
    from upres.engine.models.catalog import DEFAULT_MODEL, full_name
    from upres.v2 import upscale_pb2 as pb

    if chain and model:
        raise SettingsError("--model and --chain exclude each other; name all models in --chain, one after the other")
    if not chain and not model and scale is not None:
        if scale not in (2, 4):
            raise SettingsError(f"--scale {scale} needs a model that supports it: --model flashvsr --scale {scale}")
        model, scale = f"x{scale}", None
    models = [full_name(name.strip()) for name in chain.split(",")] if chain else []
    model = models[0] if models else full_name(model or DEFAULT_MODEL)
    return pb.UpscaleConfig(
        model=model,
        models=models,
        scale=scale,
        content=content,
        crf=crf,
        prefilters=prefilter,
        split=split,
        tonemap=tonemap,
    )


@with_options(client=connect, config=make_config)
def submit(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A clip.")],
    *,
    client: "Client",
    config: "pb.UpscaleConfig",
) -> None:
    """Upload a clip as a job and print its request_id."""
    check_clip(source)
    config.source_name = sent_name(source)
    request_id = client.submit(source, config).request_id
    typer.echo(request_id)
    if sys.stderr.isatty():
        typer.echo(f"to download the result: upres get {request_id} OUT.mp4", err=True)


@with_options(client=connect)
def jobs(*, client: "Client") -> None:
    """List the latest jobs of this key: request_id, status, progress, model, and the name of the source's file if it is known."""
    latest = client.jobs()
    for job in latest:
        name = f"  {job.config.source_name}" if job.config.source_name else ""
        typer.echo(f"{job.request_id}  {_status_name(job):<10}  {job.progress:3.0f} %  {job.config.model}{name}")
    if not latest:
        typer.echo("this key has no jobs; create one with `upres submit in.mp4`", err=True)


@with_options(client=connect)
def watch(request_id: Id, *, client: "Client") -> None:
    """Show a job's progress until it ends."""
    with interruptible(f"the job continues: upres watch {request_id}"):
        _wait_until_ended(client, request_id)
    typer.echo(f"{request_id}: done", err=True)


@with_options(client=connect)
def get(
    request_id: Id,
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The file to write the result to.")],
    *,
    client: "Client",
    overwrite: Overwrite = False,
) -> None:
    """Wait for a job and download its result."""
    from upres.engine.core.errors import TargetError
    from upres.engine.pipeline.target import check_target

    if target.suffix.lower() != ".mp4":
        raise TargetError(f"{target}: a job's result is MP4; use a name that ends in .mp4")
    check_target(None, target, "mp4", overwrite=overwrite)
    with interruptible(f"the job continues: upres get {request_id} {target}"):
        job = _wait_until_ended(client, request_id)
        client.download(request_id, target)
    report_done(target, job)


@with_options(client=connect)
def cancel(request_id: Id, *, client: "Client") -> None:
    """Cancel a job immediately."""
    client.cancel(request_id)
    typer.echo(f"{request_id}: cancelled", err=True)


@with_options(client=connect)
def sources(*, client: "Client") -> None:
    """List the live streams that a server is configured to pull, by the names that `upres stream live:NAME OUT` accepts."""
    names = client.live_sources()
    for name in names:
        typer.echo(name)
    if not names:
        typer.echo("this server pulls no streams; its operator lists them in the setting live_sources", err=True)


@contextmanager
def interruptible(note: str = "") -> "Iterator[None]":
    """Raise Interrupted for Ctrl-C and SIGTERM, with a note on how to continue."""
    with signals.interruptible():
        try:
            yield
        except KeyboardInterrupt as stop:
            if note:
                stop.add_note(note)
            raise


def check_clip(source: Path) -> None:
    """Raise SourceError if a path is not that of a file with contents, or if the file is an image."""
    from upres.engine.core.errors import SourceError
    from upres.engine.decode.source import check_file
    from upres.engine.images.recognize import still_format

    check_file(source, str(source))
    if still_format(source):
        raise SourceError(
            f"{source}: is an image, and a server accepts videos only; upscale it here with: upres {source}"
        )


def sent_name(source: Path) -> str:
    """Return the name of a file as it is sent to a server, for its list of jobs; bytes that are not UTF-8 are replaced."""
    return os.fsencode(source.name).decode(errors="replace")


def _wait_until_ended(client: "Client", request_id: str) -> "pb.Job":
    """Show a job's progress until it ends; raises RemoteError if it failed."""
    from .console import RemoteBar

    with RemoteBar("waiting") as bar:
        for job in client.watch(request_id):
            bar.show(_status_name(job), job.progress)
            bar.warn(job.warnings)
    raise_if_failed(job)
    return job


def report_done(target: Path, job: "pb.Job") -> None:
    """Report what was written to a target."""
    name = "stdout" if str(target) == "-" else target
    typer.echo(f"{name}: {counted(job.totals.frames_in, 'frame')} in, {job.totals.frames_out} out", err=True)


def _status_name(job: "pb.Job") -> str:
    from upres.v2 import upscale_pb2 as pb

    return pb.Job.Status.Name(job.status).removeprefix("STATUS_").lower()


def raise_if_failed(job: "pb.Job") -> None:
    """Raise RemoteError if a job failed or was cancelled."""
    from upres.service.client.errors import RemoteError
    from upres.v2 import upscale_pb2 as pb

    if job.status == pb.Job.STATUS_ERROR:
        if job.error.reason == "CANCELLED":
            raise RemoteError("the job was cancelled")
        again = "; it can be submitted again" if job.error.retryable else ""
        message = f"the job failed: {job.error.message} ({job.error.reason}){again}"
        raise RemoteError(message, reason=job.error.reason)
