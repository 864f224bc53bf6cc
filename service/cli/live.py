"""`upres live`: a live source upscaled here as it comes, to files, players and addresses at once."""

import re
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from upres.engine.core.text import counted, redacted

from . import signals
from .options import Crf, Overwrite, Prefilters, Tonemap, built
from .run.options import ModelOptions

if TYPE_CHECKING:
    from upres.engine.core.model import Model
    from upres.engine.decode.reader import Reader
    from upres.engine.live.session import LiveRun, Viewer
    from upres.engine.live.sink import Sink
    from upres.engine.pipeline.options import Job
    from upres.engine.pipeline.progress import Progress

    from .console import RemoteBar

CAMERA = re.compile(r"/dev/video\d+")
PLAYLIST = re.compile(r"https?://[^?#]+\.m3u8([?#].*)?", re.IGNORECASE)
SHOWN_SECONDS = 0.5  # between two looks at how far it is
SPEED_SECONDS = 3.0  # over which a speed is counted

Source = Annotated[
    str,
    typer.Argument(
        metavar="SRC",
        help="rtsp://, rtmp://, srt://, udp://, tcp://, https://….m3u8, a camera such as /dev/video0, - for stdin; or a file, "
        "at its own pace.",
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
    bool, typer.Option("--every-frame", help="Upscale every frame, however late; by default late ones are left out.")
]
Preview = Annotated[
    bool, typer.Option("--preview", help="Show the result on a page, at an address of this machine that is printed.")
]
StepDown = Annotated[
    bool,
    typer.Option(
        "--step-down", help="While the network is too slow, let a lighter one work; the picture keeps its size."
    ),
]
Preset = Annotated[str, typer.Option(help="Speed of the encoding: ultrafast … veryslow.")]


@built(choice=ModelOptions)
def live(
    source: Source,
    to: To = None,
    preview: Preview = False,
    every_frame: EveryFrame = False,
    step_down: StepDown = False,
    preset: Preset = "veryfast",
    crf: Crf = 20,
    prefilter: Prefilters = None,
    tonemap: Tonemap = False,
    overwrite: Overwrite = False,
    *,
    choice: ModelOptions,
) -> None:
    """Upscale a live source as it comes, until it ends or Ctrl-C. No server is needed."""
    with signals.immediate():
        from upres.engine.core.errors import SettingsError
        from upres.engine.encode.options import Encoder
        from upres.engine.live.destination import destinations
        from upres.engine.live.session import LiveRun, open_live
        from upres.engine.pipeline.options import Job
        from upres.engine.pipeline.progress import Progress

        from .console import RemoteBar
        from .stdio import stdin, stdout

    if every_frame and step_down:
        raise SettingsError("--every-frame waits for the network, so that --step-down has nothing to do; leave one out")
    opened = stdin() if source == "-" else _address(source)
    places = destinations(to or ["-"] * (not preview), opened, overwrite=overwrite)
    if any(place.place is None for place in places):
        stdout()  # refuses a terminal
    progress = Progress()
    with (
        RemoteBar(f"waiting for {redacted(source)}", endless=True) as bar,
        signals.interruptible(),
        _previewed(progress, bar) if preview else nullcontext() as viewer,
    ):
        running = LiveRun(places, viewer)
        loaded, notes = _loaded(choice, step_down=step_down)
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
        # Only now, when it can be read as fast as it comes: what has come before would be late.
        with open_live(opened, tonemap=tonemap) as reader:
            _run(running, reader, job, progress, bar)
    typer.echo(_summary(running, progress), err=True)


def _loaded(choice: ModelOptions, *, step_down: bool) -> tuple[tuple["Model", ...], list[str]]:
    """Load the light network, where there is one: another is asked for by its content or by its name. Gives notes as well.

    step_down: the model's own network by default, and what may take its place.
    """
    from .run.choice import Choice, Wanted

    models = Choice(replace(choice, content="live") if choice.content == "auto" and not step_down else choice)
    wanted = models.named() or Wanted(("RealESRGAN_Vid_x2",), (2,), 2)
    return models.load_stepped(wanted) if step_down else models.load(wanted)


@contextmanager
def _previewed(progress: "Progress", bar: "RemoteBar") -> Iterator["Viewer"]:
    """Open the page, and say where."""
    from upres.service.server.preview import Preview

    with Preview(progress) as opened:
        bar.say(f"preview: {opened.url}")
        yield opened


def _address(source: str) -> str:
    if CAMERA.fullmatch(source):
        return f"v4l2://{source}"
    return f"hls+{source}" if PLAYLIST.fullmatch(source) else source


def _run(running: "LiveRun", reader: "Reader", job: "Job", progress: "Progress", bar: "RemoteBar") -> None:
    """Run to the end of the source, or Ctrl-C, which is the usual end of a live run and no error."""
    try:
        with _watched(running, progress, bar):
            running.run(reader, job, progress)
    except KeyboardInterrupt:
        bar.say("stopped: every destination has what was made until now")


@contextmanager
def _watched(running: "LiveRun", progress: "Progress", bar: "RemoteBar") -> Iterator[None]:
    """Show the progress, and each problem once, as they come: also while no frame does."""
    said, line, network, over = set["Sink"](), LiveLine(bar), progress.network, threading.Event()

    def look() -> None:
        nonlocal network
        bar.warn(progress.warnings)
        if progress.network != network:
            bar.say(f"{'from now on by' if network else 'network:'} {progress.network}")
            network = progress.network
        for sink in running.sinks:
            if sink.error and sink not in said and not running.in_vain:  # or the run ends, and names them all
                said.add(sink)
                bar.say(f"{sink.destination.name}: {sink.error}; the others go on")
        line.show(progress.frames_in, progress.frames_out, progress.frames_dropped, progress.late, _breaks(progress))

    def watch() -> None:
        while not over.wait(SHOWN_SECONDS):
            look()

    watching = threading.Thread(target=watch, name="watching", daemon=True)
    watching.start()
    try:
        yield
    finally:
        over.set()
        watching.join()
        look()


class LiveLine:
    """One line on a live run while it goes, wherever that is."""

    def __init__(self, bar: "RemoteBar") -> None:
        self._bar = bar
        self._seen = deque([(time.monotonic(), 0, 0)])
        self._came = time.monotonic(), 0

    def show(self, came: int, made: int, dropped: int, late: float | None, more: str = "") -> None:
        """Show it: frames that came, were made and were left out so far, and how many seconds late the newest is."""
        now = time.monotonic()
        self._seen.append((now, came, made))
        while self._seen[1][0] < now - SPEED_SECONDS:
            self._seen.popleft()
        since, came_before, made_before = self._seen[0]
        seconds = max(now - since, 1e-9)
        speed = f", {(made - made_before) / seconds:.1f} of {(came - came_before) / seconds:.1f} fps"
        delay = "" if late is None else f", {1000 * late:.0f} ms late"
        left_out = f", {dropped} left out" if dropped else ""
        self._came = self._came if self._came[1] == came else (now, came)
        if now - self._came[0] > SPEED_SECONDS:
            more += f", nothing has come for {now - self._came[0]:.0f} s"
        self._bar.show(f"{counted(made, 'frame')}{speed}{delay}{left_out}{more}", 0)


def _counts(progress: "Progress") -> str:
    dropped = f", {progress.frames_dropped} left out to keep up" if progress.frames_dropped else ""
    broken = f"{breaks} of the source" if (breaks := _breaks(progress)) else ""
    return f"{counted(progress.frames_out, 'frame')}{dropped}{broken}"


def _breaks(progress: "Progress") -> str:
    breaks = progress.repairs.interruptions
    return f", {counted(breaks, 'interruption')}" if breaks else ""


def _summary(running: "LiveRun", progress: "Progress") -> str:
    """Say what became of each destination."""
    lines = [_counts(progress)]
    for sink in running.sinks:
        state = str(sink.error) if sink.error else "complete"
        lost = f", {counted(sink.dropped, 'frame')} lost: it was too slow" if sink.dropped else ""
        name = "stdout" if sink.destination.name == "-" else sink.destination.name
        lines.append(f"{name}: {state}{lost}")
    return "\n".join(lines)
