"""`upres live`: upscale a live source on this machine as it arrives, to files, players and network addresses at once."""

import re
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

import typer

from upres.engine.core.text import counted, redacted

from . import signals
from .options import Crf, Overwrite, Prefilters, Tonemap, check_names, with_options
from .run.options import ModelOptions, content_option, model_option, scale_option

if TYPE_CHECKING:
    from upres.engine.core.model import Model
    from upres.engine.decode.reader import Reader
    from upres.engine.decode.source import Source as OpenSource
    from upres.engine.live.destination import Destination
    from upres.engine.live.session import LiveRun
    from upres.engine.live.sink import Sink
    from upres.engine.pipeline.options import Job
    from upres.engine.pipeline.progress import Progress
    from upres.service.server.preview import Preview as PreviewPage

    from .console import RemoteBar

CAMERA = re.compile(r"/dev/video\d+")
PLAYLIST = re.compile(r"https?://[^?#]+\.m3u8([?#].*)?", re.IGNORECASE)
SHOWN_SECONDS = 0.5  # between two progress updates
SPEED_SECONDS = 3.0  # window over which a speed is measured
PAGE_MINUTES = 10  # maximum wait for the page to be opened before a file is played

Source = Annotated[
    str,
    typer.Argument(
        metavar="SRC",
        help="rtsp://, rtmp://, srt://, udp://, tcp://, https://….m3u8, a camera such as /dev/video0, - for stdin; or a file, "
        "which is played at its own rate.",
    ),
]
To = Annotated[
    list[str] | None,
    typer.Option(
        "--to",
        metavar="DEST",
        help="rtmp://, rtsp://, srt://, udp://, tcp://, whip+https://; a file .mp4 .mkv .mov .ts; a folder/ for HLS; - for "
        "stdout, the default. Repeatable.",
    ),
]
EveryFrame = Annotated[
    bool,
    typer.Option("--every-frame", help="Upscale every frame, no matter how late; by default, late frames are dropped."),
]
Preview = Annotated[
    bool, typer.Option("--preview", help="Show the result on a web page on this machine, whose address is printed.")
]
StepDown = Annotated[
    bool,
    typer.Option(
        "--step-down",
        help="Use a lighter network while the chosen one is too slow; the size of the picture stays the same.",
    ),
]
Preset = Annotated[str, typer.Option(help="Encoding speed: ultrafast … veryslow.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveModelOptions(ModelOptions):
    """The same choice for a live source, with other defaults."""

    scale: Annotated[int | None, scale_option("2")] = None
    model: Annotated[str | None, model_option("x2, or x4 with --scale 3 or 4")] = None
    content: Annotated[
        str,
        content_option(
            "photo, animation or live: which network of the model to use; by default live, the light one (realesr-live-x2), or "
            "with --step-down the model's default network."
        ),
    ] = "auto"


@with_options(choice=LiveModelOptions)
def live(
    source: Source,
    to: To = None,
    preview: Preview = False,
    every_frame: EveryFrame = False,
    step_down: StepDown = False,
    preset: Preset = "superfast",  # LIVE_PRESET, whose module takes long to import
    crf: Crf = 20,
    prefilter: Prefilters = None,
    tonemap: Tonemap = False,
    overwrite: Overwrite = False,
    *,
    choice: LiveModelOptions,
) -> None:
    """Upscale a live source as it arrives, until it ends or Ctrl-C. No server is needed."""
    with signals.exiting_on_signals():
        from upres.engine.core.errors import SettingsError
        from upres.engine.encode.options import Encoder
        from upres.engine.live.session import LiveRun, is_recording, open_live
        from upres.engine.pipeline.options import Job
        from upres.engine.pipeline.progress import Progress

        from .console import RemoteBar

    if every_frame and step_down:
        raise SettingsError("--every-frame waits for the network, so --step-down has no effect; remove one of them")
    opened, places = _open_ends(source, to or ["-"] * (not preview), overwrite=overwrite)
    progress = Progress()
    with (
        RemoteBar(f"waiting for {redacted(source)}", endless=True) as bar,
        signals.interruptible(),
        _open_preview(progress, bar) if preview else nullcontext() as viewer,
    ):
        running = LiveRun(places, viewer)
        loaded, notes = _load_models(choice, step_down=step_down)
        bar.warn(notes)
        job = Job(
            loaded,
            Encoder(preset=preset, crf=crf, fragment="frame", live=True),
            prefilters=tuple(prefilter or ()),
            tonemap=tonemap,
            streamed=True,
            keep_up=not every_frame,
            as_recorded=True,
        )
        # Opened only now, when it can be read as fast as it arrives: frames that arrived earlier would be late.
        with open_live(opened, tonemap=tonemap) as reader:
            if viewer is not None and not places and is_recording(opened):
                _wait_for_viewer(viewer, bar)
            _run(running, reader, job, progress, bar)
    _finish(running, progress)


def _finish(running: "LiveRun", progress: "Progress") -> None:
    """Print the summary; raises typer.Exit with the exit code of the first destination that failed."""
    typer.echo(_summary(running, progress), err=True)
    if failed := [sink.error for sink in running.sinks if sink.error]:
        raise typer.Exit(failed[0].exit_code)


def _open_ends(source: str, to: list[str], *, overwrite: bool) -> tuple["OpenSource", list["Destination"]]:
    """Return the source and its destinations. Raises SettingsError and TargetError if they cannot be used."""
    from upres.engine.live.destination import destinations

    from .stdio import stdin, stdout

    check_names([source, *to])
    opened = stdin() if source == "-" else _address(source)
    places = destinations(to, opened, overwrite=overwrite)
    if any(place.place is None for place in places):
        stdout()  # raises for a terminal
    return opened, places


def _load_models(choice: LiveModelOptions, *, step_down: bool) -> tuple[tuple["Model", ...], list[str]]:
    """Load the light network if there is one and the options do not choose another; returns the models and notes about them.

    step_down: load the model's default network instead, with the lighter ones that can replace it.
    """
    from .run.choice import Choice, Selection

    chooser = Choice(replace(choice, content="live") if choice.content == "auto" and not step_down else choice)
    selection = chooser.explicit() or Selection(("RealESRGAN_Vid_x2",), (2,), 2)
    return chooser.load_stepped(selection) if step_down else chooser.load(selection)


@contextmanager
def _open_preview(progress: "Progress", bar: "RemoteBar") -> Iterator["PreviewPage"]:
    """Open the preview page and report its address."""
    from upres.service.server.preview import Preview

    with Preview(progress) as opened:
        bar.info(f"preview: {opened.url}")
        yield opened


def _wait_for_viewer(page: "PreviewPage", bar: "RemoteBar") -> None:
    """Wait until the page is open, because a file that is only played there could end before. Raises TargetError after a limit."""
    from upres.engine.core.errors import TargetError

    bar.info("the file is played as soon as this page is open")
    if not page.wait_for_viewer(60.0 * PAGE_MINUTES):
        raise TargetError(f"the preview page was not opened within {PAGE_MINUTES} minutes; start the run again")


def _address(source: str) -> str:
    if CAMERA.fullmatch(source):
        return f"v4l2://{source}"
    return f"hls+{source}" if PLAYLIST.fullmatch(source) else source


def _run(running: "LiveRun", reader: "Reader", job: "Job", progress: "Progress", bar: "RemoteBar") -> None:
    """Run until the source ends or until Ctrl-C, which is the usual end of a live run and not an error."""
    try:
        with _showing_progress(running, progress, bar):
            running.run(reader, job, progress)
    except KeyboardInterrupt:
        bar.info("stopped: every destination has received what was produced so far")


@contextmanager
def _showing_progress(running: "LiveRun", progress: "Progress", bar: "RemoteBar") -> Iterator[None]:
    """Show the progress, and each problem once, even while no frame arrives."""
    reported, line, network, ended = set["Sink"](), LiveLine(bar), progress.network, threading.Event()

    def report() -> None:
        nonlocal network
        bar.warn(progress.warnings)
        if progress.network != network:
            bar.info(f"{'network changed to' if network else 'network:'} {progress.network}")
            network = progress.network
        for sink in running.sinks:
            if (
                sink.error and sink not in reported and not running.is_useless
            ):  # else the run's own error lists all of them
                reported.add(sink)
                bar.info(f"{sink.destination.name}: {sink.error}; the other destinations continue")
        line.show(
            progress.frames_in, progress.frames_out, progress.frames_dropped, progress.late, _interruptions(progress)
        )

    def report_regularly() -> None:
        while not ended.wait(SHOWN_SECONDS):
            report()

    reporter = threading.Thread(target=report_regularly, name="watching", daemon=True)
    reporter.start()
    try:
        yield
    finally:
        ended.set()
        reporter.join()
        report()


class LiveLine:
    """The status line of a live run, on this machine or on a server."""

    def __init__(self, bar: "RemoteBar") -> None:
        self._bar = bar
        self._samples = deque([(time.monotonic(), 0, 0)])
        self._last_received = time.monotonic(), 0

    def show(self, received: int, produced: int, dropped: int, late: float | None, more: str = "") -> None:
        """Update the line with the frames received, produced and dropped so far, and the lateness of the newest in seconds."""
        now = time.monotonic()
        self._samples.append((now, received, produced))
        while self._samples[1][0] < now - SPEED_SECONDS:
            self._samples.popleft()
        since, received_before, produced_before = self._samples[0]
        seconds = max(now - since, 1e-9)
        speed = f", {(produced - produced_before) / seconds:.1f} of {(received - received_before) / seconds:.1f} fps"
        delay = "" if late is None else f", {1000 * late:.0f} ms late"
        losses = f", {dropped} dropped" if dropped else ""
        self._last_received = self._last_received if self._last_received[1] == received else (now, received)
        if now - self._last_received[0] > SPEED_SECONDS:
            more += f", nothing received for {now - self._last_received[0]:.0f} s"
        self._bar.show(f"{counted(produced, 'frame')}{speed}{delay}{losses}{more}", 0)


def _counts(progress: "Progress") -> str:
    dropped = f", {progress.frames_dropped} dropped to keep up" if progress.frames_dropped else ""
    broken = f"{interruptions} of the source" if (interruptions := _interruptions(progress)) else ""
    return f"{counted(progress.frames_out, 'frame')}{dropped}{broken}"


def _interruptions(progress: "Progress") -> str:
    interruptions = progress.repairs.interruptions
    return f", {counted(interruptions, 'interruption')}" if interruptions else ""


def _summary(running: "LiveRun", progress: "Progress") -> str:
    """Return the final report, with a line for each destination."""
    lines = [_counts(progress)]
    for sink in running.sinks:
        state = str(sink.error) if sink.error else "complete"
        lost = f", {counted(sink.dropped, 'frame')} lost: it was too slow" if sink.dropped else ""
        name = "stdout" if sink.destination.name == "-" else sink.destination.name
        lines.append(f"{name}: {state}{lost}")
    return "\n".join(lines)
