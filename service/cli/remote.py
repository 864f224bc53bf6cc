"""A client's commands `upres submit`, `jobs`, `watch`, `get`, `cancel` and `sources`, and what `stream` shares with them.

Nothing of the service is imported before a command runs, so that the other commands start fast and without its extra.
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
from .options import Crf, Overwrite, Prefilters, Tonemap, built, times

if TYPE_CHECKING:
    from upres.service.client.sync import Client
    from upres.v2 import upscale_pb2 as pb


Server = Annotated[str, typer.Option("--server", envvar="UPRES_SERVER", help="HOST:PORT of a server's gRPC.")]
ApiKey = Annotated[str, typer.Option("--key", envvar="UPRES_KEY", help="An API key of that server.")]
Tls = Annotated[bool, typer.Option("--tls", help="The server speaks TLS.")]
Ca = Annotated[
    Path | None,
    typer.Option(
        "--ca", exists=True, dir_okay=False, help="PEM of the authority to trust, with TLS; by default the system's."
    ),
]
Id = Annotated[str, typer.Argument(metavar="ID", help="The job's request_id.")]
Model = Annotated[
    str | None,
    typer.Option("--model", "-m", help="x4, x2, flashvsr or a slug in full; by default as the scale asks for, or x4."),
]
Scale = Annotated[
    int | None,
    typer.Option(
        "--scale",
        "-s",
        metavar="N",
        parser=times,
        help="2, 3 or 4: picks the model, or is for a named one with a range.",
    ),
]
Chain = Annotated[str | None, typer.Option(help="Models one after the other, A,B; instead of --model.")]
Content = Annotated[
    Literal["auto", "photo", "animation", "live"], typer.Option(help="Which kind of network fits; live: a light one.")
]
Split = Annotated[bool, typer.Option("--split", help="Cut at shot boundaries; lifts the limit on length.")]

DEFAULT_SERVER = "127.0.0.1:8081"


def connected(*, server: Server = DEFAULT_SERVER, key: ApiKey = "", tls: Tls = False, ca: Ca = None) -> "Client":
    """Connect to a server; raises SettingsError."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # what matters of it is raised as an error
    import grpc

    from upres.engine.core.errors import SettingsError
    from upres.service.client.sync import Client

    if not key:
        raise SettingsError(
            "an API key is needed: --key, or UPRES_KEY in the environment; `upres keys add NAME` makes one where the server runs"
        )
    roots = ca.read_bytes() if ca else None
    if roots is not None and b"-----BEGIN CERTIFICATE-----" not in roots:
        raise SettingsError(f"{ca} holds no certificate in PEM")
    return Client(server, key, credentials=grpc.ssl_channel_credentials(roots) if tls or ca else None)


def configured(
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
    """Make the configuration that is asked for; raises SettingsError."""
    from upres.engine.core.errors import SettingsError
    from upres.engine.models.catalog import DEFAULT_MODEL, full_name
    from upres.v2 import upscale_pb2 as pb

    if chain and model:
        raise SettingsError("--model and --chain exclude each other; name all models in --chain, one after the other")
    if not chain and not model and scale is not None:
        if scale not in (2, 4):
            raise SettingsError(f"--scale {scale} is for a model with a range: --model flashvsr --scale {scale}")
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


@built(client=connected, config=configured)
def submit(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A clip.", exists=True, dir_okay=False)],
    *,
    client: "Client",
    config: "pb.UpscaleConfig",
) -> None:
    """Upload a clip as a job and print its request_id."""
    refuse_image(source)
    request_id = client.submit(source, config).request_id
    typer.echo(request_id)
    if sys.stderr.isatty():
        typer.echo(f"its result: upres get {request_id} OUT.mp4", err=True)


@built(client=connected)
def jobs(*, client: "Client") -> None:
    """List the latest jobs of this key: request_id, status, progress, model."""
    found = client.jobs()
    for job in found:
        typer.echo(f"{job.request_id}  {_word(job):<10}  {job.progress:3.0f} %  {job.config.model}")
    if not found:
        typer.echo("this key has no jobs; `upres submit in.mp4` makes one", err=True)


@built(client=connected)
def watch(request_id: Id, *, client: "Client") -> None:
    """Show a job's progress until it has ended."""
    with interruptible(f"the job continues: upres watch {request_id}"):
        _ended(client, request_id)
    typer.echo(f"{request_id}: done", err=True)


@built(client=connected)
def get(
    request_id: Id,
    target: Annotated[Path, typer.Argument(metavar="OUT", help="Where the result goes.")],
    *,
    client: "Client",
    overwrite: Overwrite = False,
) -> None:
    """Wait for a job and download its result."""
    from upres.engine.core.errors import TargetError
    from upres.engine.pipeline.target import check_target

    if target.suffix.lower() != ".mp4":
        raise TargetError(f"{target}: a job's result is MP4; let the name end in .mp4")
    check_target(None, target, "mp4", overwrite=overwrite)
    with interruptible(f"the job continues: upres get {request_id} {target}"):
        job = _ended(client, request_id)
        client.download(request_id, target)
    say_done(target, job)


@built(client=connected)
def cancel(request_id: Id, *, client: "Client") -> None:
    """End a job now."""
    client.cancel(request_id)
    typer.echo(f"{request_id}: cancelled", err=True)


@built(client=connected)
def sources(*, client: "Client") -> None:
    """List the streams that a server pulls by itself, by the names that `upres stream live:NAME OUT` takes."""
    names = client.live_sources()
    for name in names:
        typer.echo(name)
    if not names:
        typer.echo("this server pulls no streams; its operator names them in its setting live_sources", err=True)


@contextmanager
def interruptible(note: str = "") -> "Iterator[None]":
    """Raise Interrupted for Ctrl-C and SIGTERM, with a note on what is left."""
    with signals.interruptible():
        try:
            yield
        except KeyboardInterrupt as stop:
            if note:
                stop.add_note(note)
            raise


def refuse_image(source: Path) -> None:
    """Raise SourceError where a file is an image."""
    from upres.engine.core.errors import SourceError
    from upres.engine.images.recognize import still_format

    if still_format(source):
        raise SourceError(f"{source}: is an image, and a server takes videos; it is upscaled here by: upres {source}")


def _ended(client: "Client", request_id: str) -> "pb.Job":
    """Show a job's progress until it has ended; raises RemoteError where it failed."""
    from .console import RemoteBar

    with RemoteBar("waiting") as bar:
        for job in client.watch(request_id):
            bar.show(_word(job), job.progress)
            bar.warn(job.warnings)
    check_ended(job)
    return job


def say_done(target: Path, job: "pb.Job") -> None:
    """Say what a target holds."""
    name = "stdout" if str(target) == "-" else target
    typer.echo(f"{name}: {counted(job.totals.frames_in, 'frame')} in, {job.totals.frames_out} out", err=True)


def _word(job: "pb.Job") -> str:
    from upres.v2 import upscale_pb2 as pb

    return pb.Job.Status.Name(job.status).removeprefix("STATUS_").lower()


def check_ended(job: "pb.Job") -> None:
    """Raise RemoteError where a job failed."""
    from upres.service.client.errors import RemoteError
    from upres.v2 import upscale_pb2 as pb

    if job.status == pb.Job.STATUS_ERROR:
        again = "; it may be submitted again" if job.error.retryable else ""
        raise RemoteError(f"the job failed: {job.error.message} ({job.error.reason}){again}")
