"""`upres stream`: upscale a clip, a live source, or a stream that the server pulls, on a server while it arrives."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from upres.engine.core.text import counted

from .options import Overwrite, with_options
from .remote import check_clip, connect, interruptible, make_config, raise_if_failed, report_done, sent_name

if TYPE_CHECKING:
    from upres.engine.decode.source import Readable
    from upres.service.client.assembly import Assembly
    from upres.service.client.growing import Growing
    from upres.service.client.received import Part
    from upres.service.client.sync import Client
    from upres.v2 import upscale_pb2 as pb

    from .console import RemoteBar

Source = Annotated[
    str,
    typer.Argument(
        metavar="IN",
        help="A clip, - for stdin, live:NAME for a stream that the server pulls (`upres sources`), or job:ID to follow a "
        "live job.",
    ),
]
Target = Annotated[
    Path,
    typer.Argument(metavar="OUT", help="The result file; - for stdout, as it is produced.", allow_dash=True),
]
Delivery = Annotated[
    Literal["segments", "frames"] | None,
    typer.Option(help="The unit in which the result is sent back; segments by default, frames with --live."),
]
Live = Annotated[
    bool, typer.Option("--live", help="The source has no end of its own, and the server does not keep it.")
]
WhenSlow = Annotated[
    Literal["wait", "drop"] | None,
    typer.Option(
        help="With --live: what to do if the models or this client are too slow; wait by default, drop for live:NAME."
    ),
]
StepDown = Annotated[
    bool,
    typer.Option("--step-down", help="With --when-slow drop: use a lighter network while the chosen one is too slow."),
]


@dataclass(frozen=True, slots=True)
class _Origin:
    """The origin of a source. stream: a name configured on the server. job: the id of a live job. Else text is a path or -."""

    text: str
    stream: str | None = None
    job: str | None = None

    @classmethod
    def parse(cls, text: str) -> "_Origin":
        """Parse the argument; raises SettingsError if the name after `live:` or `job:` is empty."""
        from upres.engine.core.errors import SettingsError

        kind, colon, name = text.partition(":")
        if not colon or kind not in ("live", "job"):
            return cls(text)
        if not name:
            raise SettingsError(
                f"{text} lacks a name; live:NAME is one of `upres sources`, and job:ID one of `upres jobs`"
            )
        return cls(text, stream=name if kind == "live" else None, job=name if kind == "job" else None)

    @property
    def remote(self) -> bool:
        """Report whether the server has the source, so that nothing is sent."""
        return self.stream is not None or self.job is not None

    @contextmanager
    def opened(self) -> "Iterator[Readable | None]":
        """Open the source to send, if any; raises SourceError."""
        from upres.engine.core.errors import SourceError

        from .stdio import stdin

        if self.remote:
            yield None
        elif self.text == "-":
            yield stdin()
        else:
            if not Path(self.text).is_fifo():
                check_clip(Path(self.text))
            try:
                file = Path(self.text).open("rb")  # noqa: SIM115 - closed below
            except OSError as error:
                raise SourceError(f"{self.text}: cannot be read ({error.strerror})") from error
            with file:
                yield file


@with_options(client=connect, config=make_config)
def stream(
    source: Source,
    target: Target,
    *,
    client: "Client",
    config: "pb.UpscaleConfig",
    delivery: Delivery = None,
    live: Live = False,
    when_slow: WhenSlow = None,
    step_down: StepDown = False,
    overwrite: Overwrite = False,
) -> None:
    """Upscale on a server while the source is sent.

    Resumes after a lost connection, unless the source is live; the result of a live source is written here as it arrives.
    """
    from upres.service.client.assembly import Assembly
    from upres.service.client.errors import RemoteError
    from upres.service.client.growing import Growing

    from .console import RemoteBar

    origin = _Origin.parse(source)
    live = live or origin.remote
    if origin.job is not None:
        _refuse_settings(config, delivery, when_slow, step_down=step_down)
    _check_target(origin, target, overwrite=overwrite)
    _set_delivery(
        config, delivery, live=live, when_slow=when_slow or ("drop" if origin.stream else "wait"), step_down=step_down
    )
    _set_source(config, origin)
    with (
        interruptible(),
        Growing(target) if live or str(target) == "-" else Assembly(target, overwrite=overwrite) as assembly,
        origin.opened() as file,
    ):
        try:
            with RemoteBar("waiting" if origin.remote else "sending", endless=live) as bar:
                parts = client.stream(file, config) if origin.job is None else client.attach(origin.job)
                job = _receive(parts, assembly, bar, live=live)
        except (KeyboardInterrupt, RemoteError) as error:
            if live and assembly.frames:
                assembly.join()
                name = "stdout" if str(target) == "-" else target
                error.add_note(f"{name} holds the {counted(assembly.frames, 'frame')} received so far")
            raise
        assembly.join()
    report_done(target, job)


def _set_source(config: "pb.UpscaleConfig", origin: _Origin) -> None:
    """Name the stream that the server pulls, or the file that is sent."""
    if origin.stream is not None:
        config.live_source = origin.stream
    if not origin.remote and origin.text != "-":
        config.source_name = sent_name(Path(origin.text))


def _check_target(origin: _Origin, target: Path, *, overwrite: bool) -> None:
    """Raise TargetError if the result cannot be written, before anything is sent."""
    from upres.engine.pipeline.target import check_target
    from upres.service.client.assembly import container_of

    from .stdio import stdin, stdout

    if str(target) == "-":
        stdout()  # raises for a terminal
        return
    path = None if origin.remote else stdin() if origin.text == "-" else Path(origin.text)
    check_target(path, target, container_of(target), overwrite=overwrite)


def _refuse_settings(
    config: "pb.UpscaleConfig", delivery: str | None, when_slow: str | None, *, step_down: bool
) -> None:
    """Raise SettingsError if settings are given for a job that already exists."""
    from upres.engine.core.errors import SettingsError

    if config != make_config() or delivery or when_slow or step_down:
        raise SettingsError(
            "job:ID follows a job that was started with its own model and settings; remove these options"
        )


def _set_delivery(
    config: "pb.UpscaleConfig", delivery: str | None, *, live: bool, when_slow: str, step_down: bool
) -> None:
    """Set the units of the result, and what happens to late ones; raises SettingsError."""
    from upres.engine.core.errors import SettingsError
    from upres.v2 import upscale_pb2 as pb

    if when_slow == "drop" and not live:
        raise SettingsError("--when-slow drop is for a live source; add --live")
    if step_down and when_slow == "wait":
        raise SettingsError(
            "--step-down is for a live source whose late frames are dropped; add --live --when-slow drop"
        )
    if delivery is not None:
        config.delivery = pb.DELIVERY_FRAMES if delivery == "frames" else pb.DELIVERY_SEGMENTS
    config.live, config.when_slow = live, pb.WHEN_SLOW_DROP if when_slow == "drop" else pb.WHEN_SLOW_WAIT
    config.step_down = step_down


def _receive(parts: "Iterable[Part]", assembly: "Assembly | Growing", bar: "RemoteBar", *, live: bool) -> "pb.Job":
    """Store all received parts; returns the finished job."""
    from upres.v2 import upscale_pb2 as pb

    from .live import LiveLine

    request_id, network, line = "", "", LiveLine(bar)
    try:
        for part in parts:
            match part:
                case pb.UpscaleResponse.Accepted():
                    request_id = part.request_id
                    _report_addresses(part, bar)
                case pb.TrackInit():
                    assembly.add_track(part)
                case pb.Fragment():
                    assembly.append(part)
                case pb.Dropped():
                    bar.info(f"{counted(part.frames, 'frame')} of {part.track} dropped: this client was too slow")
                case pb.Progress():
                    late = part.live_late_seconds if part.HasField("live_late_seconds") else None
                    if live:
                        line.show(part.totals.frames_in, part.totals.frames_out, part.totals.frames_dropped, late)
                    else:
                        bar.show(counted(part.totals.frames_out, "frame"), part.percent)
                    bar.warn(part.warnings)
                    if network and part.network != network:
                        bar.info(f"network changed to {part.network}")
                    network = part.network
                case pb.Job():
                    raise_if_failed(part)
                    return part
    except KeyboardInterrupt as stop:
        if request_id:
            stop.add_note(f"it was job {request_id}")
        raise
    raise AssertionError("a stream ends with its job")


def _report_addresses(accepted: "pb.UpscaleResponse.Accepted", bar: "RemoteBar") -> None:
    """Report how other clients can follow a live job while it runs."""
    if accepted.config.live:
        where = accepted.hls if "://" in accepted.hls else f"{accepted.hls} at the server's HTTP address"
        bar.info(
            f"live job {accepted.request_id}: others can follow it with `upres stream job:{accepted.request_id} OUT`"
        )
        bar.info(f"for LL-HLS players: {where}")
