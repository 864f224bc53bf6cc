"""A client's commands `upres submit`, `watch`, `get`, `cancel` and `stream`, as the command line finds them by name.

Nothing of the service is imported before a command runs, so that the other commands start fast and without its extra.
"""

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Literal

import typer

from upres.engine.core.text import counted

from . import signals
from .options import Crf, Overwrite, Prefilters, Tonemap, built, times

if TYPE_CHECKING:
    from upres.service.client.assembly import Assembly
    from upres.service.client.growing import Growing
    from upres.service.client.received import Part
    from upres.service.client.sync import Client
    from upres.v2 import upscale_pb2 as pb

    from .console import RemoteBar

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
Delivery = Annotated[
    Literal["segments", "frames"] | None,
    typer.Option(help="What is sent back as one piece; segments, or frames if live."),
]
Live = Annotated[
    bool, typer.Option("--live", help="The source does not end by itself, and the server does not keep it.")
]
WhenSlow = Annotated[
    Literal["wait", "drop"], typer.Option(help="With --live: what happens when this client is too slow.")
]
StepDown = Annotated[
    bool,
    typer.Option("--step-down", help="With --when-slow drop: while the network is too slow, let a lighter one work."),
]
Split = Annotated[bool, typer.Option("--split", help="Cut at shot boundaries; lifts the limit on length.")]

DEFAULT_SERVER = "127.0.0.1:8081"


def _client(*, server: Server = DEFAULT_SERVER, key: ApiKey = "", tls: Tls = False, ca: Ca = None) -> "Client":
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


def _config(
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


@built(client=_client, config=_config)
def submit(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A clip.", exists=True, dir_okay=False)],
    *,
    client: "Client",
    config: "pb.UpscaleConfig",
) -> None:
    """Upload a clip as a job and print its request_id."""
    _refuse_image(source)
    request_id = client.submit(source, config).request_id
    typer.echo(request_id)
    if sys.stderr.isatty():
        typer.echo(f"its result: upres get {request_id} OUT.mp4", err=True)


@built(client=_client)
def jobs(*, client: "Client") -> None:
    """List the latest jobs of this key: request_id, status, progress, model."""
    for job in client.jobs():
        typer.echo(f"{job.request_id}  {_word(job):<10}  {job.progress:3.0f} %  {job.config.model}")


@built(client=_client)
def watch(request_id: Id, *, client: "Client") -> None:
    """Show a job's progress until it has ended."""
    with _interruptible(f"the job continues: upres watch {request_id}"):
        _ended(client, request_id)
    typer.echo(f"{request_id}: done", err=True)


@built(client=_client)
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
    with _interruptible(f"the job continues: upres get {request_id} {target}"):
        job = _ended(client, request_id)
        client.download(request_id, target)
    _done(target, job)


@built(client=_client)
def cancel(request_id: Id, *, client: "Client") -> None:
    """End a job now."""
    client.cancel(request_id)
    typer.echo(f"{request_id}: cancelled", err=True)


@built(client=_client, config=_config)
def stream(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A clip, or - for stdin.", allow_dash=True)],
    target: Annotated[
        Path,
        typer.Argument(metavar="OUT", help="Where the result goes; - for stdout, while it is made.", allow_dash=True),
    ],
    *,
    client: "Client",
    config: "pb.UpscaleConfig",
    delivery: Delivery = None,
    live: Live = False,
    when_slow: WhenSlow = "wait",
    step_down: StepDown = False,
    overwrite: Overwrite = False,
) -> None:
    """Upscale on a server while the source is sent. Resumes after a lost connection, unless live; then the result grows here."""
    from upres.engine.core.errors import SettingsError
    from upres.engine.pipeline.target import check_target
    from upres.service.client.assembly import Assembly, container_of
    from upres.service.client.errors import RemoteError
    from upres.service.client.growing import Growing

    from .console import RemoteBar
    from .stdio import stdin, stdout

    if when_slow == "drop" and not live:
        raise SettingsError("--when-slow drop is for a live source; add --live")
    piped, grows = str(source) == "-", live or str(target) == "-"
    if str(target) == "-":
        stdout()  # refuses a terminal
    else:
        check_target(stdin() if piped else source, target, container_of(target), overwrite=overwrite)
    if step_down and when_slow == "wait":
        raise SettingsError(
            "--step-down is for a live source whose late frames are left out; add --live --when-slow drop"
        )
    config.step_down = step_down
    _set_delivery(config, delivery, live=live, when_slow=when_slow)
    with (
        _interruptible(),
        Growing(target) if grows else Assembly(target, overwrite=overwrite) as assembly,
        nullcontext(stdin()) if piped else _opened(source) as file,
    ):
        try:
            with RemoteBar("sending", endless=live) as bar:
                job = _received(client.stream(file, config), assembly, bar)
        except (KeyboardInterrupt, RemoteError) as error:
            if live and assembly.frames:
                assembly.join()
                error.add_note(f"{target} holds the {counted(assembly.frames, 'frame')} received so far")
            raise
        assembly.join()
    _done(target, job)


def _set_delivery(config: "pb.UpscaleConfig", delivery: str | None, *, live: bool, when_slow: str) -> None:
    """Say in what pieces the result comes, and what becomes of it where it is late."""
    from upres.v2 import upscale_pb2 as pb

    if delivery is not None:
        config.delivery = pb.DELIVERY_FRAMES if delivery == "frames" else pb.DELIVERY_SEGMENTS
    config.live, config.when_slow = live, pb.WHEN_SLOW_DROP if when_slow == "drop" else pb.WHEN_SLOW_WAIT


def _received(parts: "Iterable[Part]", assembly: "Assembly | Growing", bar: "RemoteBar") -> "pb.Job":
    """Store what is received; gives the job, which is done."""
    from upres.v2 import upscale_pb2 as pb

    request_id = network = ""
    try:
        for part in parts:
            match part:
                case pb.UpscaleResponse.Accepted():
                    request_id = part.request_id
                case pb.TrackInit():
                    assembly.add_track(part)
                case pb.Fragment():
                    assembly.append(part)
                case pb.Dropped():
                    bar.say(f"{counted(part.frames, 'frame')} of {part.track} left out: this client was too slow")
                case pb.Progress():
                    late = f", {1000 * part.live_late_seconds:.0f} ms late" * part.HasField("live_late_seconds")
                    bar.show(f"{counted(part.totals.frames_out, 'frame')}{late}", part.percent)
                    bar.warn(part.warnings)
                    if network and part.network != network:
                        bar.say(f"from now on by {part.network}")
                    network = part.network
                case pb.Job():
                    _check(part)
                    return part
    except KeyboardInterrupt as stop:
        if request_id:
            stop.add_note(f"it was job {request_id}")
        raise
    raise AssertionError("a stream ends with its job")


@contextmanager
def _interruptible(note: str = "") -> "Iterator[None]":
    """Raise Interrupted for Ctrl-C and SIGTERM, with a note on what is left."""
    with signals.interruptible():
        try:
            yield
        except KeyboardInterrupt as stop:
            if note:
                stop.add_note(note)
            raise


def _refuse_image(source: Path) -> None:
    from upres.engine.core.errors import SourceError
    from upres.engine.images.recognize import still_format

    if still_format(source):
        raise SourceError(f"{source}: is an image, and a server takes videos; it is upscaled here by: upres {source}")


def _opened(source: Path) -> AbstractContextManager[IO[bytes]]:
    from upres.engine.core.errors import SourceError

    _refuse_image(source)
    try:
        return source.open("rb")
    except OSError as error:
        raise SourceError(f"{source}: cannot be read ({error.strerror})") from error


def _ended(client: "Client", request_id: str) -> "pb.Job":
    """Show a job's progress until it has ended; raises RemoteError where it failed."""
    from .console import RemoteBar

    with RemoteBar("waiting") as bar:
        for job in client.watch(request_id):
            bar.show(_word(job), job.progress)
            bar.warn(job.warnings)
    _check(job)
    return job


def _done(target: Path, job: "pb.Job") -> None:
    typer.echo(f"{target}: {counted(job.totals.frames_in, 'frame')} in, {job.totals.frames_out} out", err=True)


def _word(job: "pb.Job") -> str:
    from upres.v2 import upscale_pb2 as pb

    return pb.Job.Status.Name(job.status).removeprefix("STATUS_").lower()


def _check(job: "pb.Job") -> None:
    """Raise RemoteError where a job failed."""
    from upres.service.client.errors import RemoteError
    from upres.v2 import upscale_pb2 as pb

    if job.status == pb.Job.STATUS_ERROR:
        again = "; it may be submitted again" if job.error.retryable else ""
        raise RemoteError(f"the job failed: {job.error.message} ({job.error.reason}){again}")
