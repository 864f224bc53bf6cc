"""What the command line shows: a progress bar on a terminal, plain lines elsewhere, or one JSON object a line."""

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext

import typer
from rich.cells import cell_len
from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bar
from rich.table import Column

from upres.engine.core.errors import UpresError
from upres.engine.core.model import Model
from upres.engine.core.text import counted, number
from upres.engine.pipeline.estimate import Prediction
from upres.engine.pipeline.progress import Progress

from .flags import in_flags

PLAIN_SECONDS = 5.0  # between two plain lines
ENDLESS_SECONDS = 10.0  # between two of a run that may last for days
NUMBERS = 50  # cells that a bar and its numbers take at least
NARROW = 70  # of a terminal that has no room for all of them


class Report:
    """Report runs on stderr; with json, on stdout, unless the result goes there. quiet: nothing but what failed."""

    def __init__(self, *, json: bool, beside_data: bool = False, quiet: bool = False, verbose: bool = False) -> None:
        self._json, self._quiet, self._verbose = json, quiet, verbose
        self._place, self._first = "", True
        self._out = sys.stderr if beside_data or sys.stdout is None else sys.stdout
        self._warned = 0
        self._console = Console(stderr=True)
        self._total: int | None = None
        self._begin = self._started = time.perf_counter()

    def say(self, text: str, **fields: object) -> None:
        """Write one line, or one object with the line as its text; settings that it names become flags."""
        if not self._quiet:
            self._write(text, **fields)

    def _write(self, text: str, **fields: object) -> None:
        text = in_flags(text)
        if self._json:
            self._out.write(json.dumps({"text": text, **fields}) + "\n")
            self._out.flush()
        else:
            self._console.out(text, highlight=False)  # above a progress bar, where one is shown

    def asks(self, question: str) -> bool:
        """Ask a question that is answered with yes or no, no by default; the answer to the first of several inputs holds for all.

        The person who started them may have left, and a question between two would stop the rest.
        """
        return not self._first or typer.confirm(question, err=True)

    def counts(self, number: int, of: int) -> None:
        """Let what follows say which of several inputs it is about."""
        self._place, self._first = f"{number} of {of}: " * (of > 1), number == 1

    def warn(self, text: str, **fields: object) -> None:
        """Write a line that a user should not miss."""
        self.say(f"note: {text}", event="note", **fields)

    def fail(self, source: str, error: UpresError) -> None:
        """Report that one input failed, with the notes of its error."""
        notes = list(getattr(error, "__notes__", ()))
        text = "\n  ".join([str(error) if source in str(error) else f"{source}: {error}", *notes])
        self._write(f"{self._place}{text}", event="failed", source=source, exit_code=error.exit_code)

    @contextmanager
    def failures(self) -> Iterator[None]:
        """With json, report an error as an object too, before it ends the command."""
        try:
            yield
        except UpresError as error:
            if self._json:
                notes = [in_flags(note) for note in getattr(error, "__notes__", [])]
                self._write(str(error), event="failed", exit_code=error.exit_code, notes=notes)
            raise

    def skipped(self, target: str) -> None:
        """Report that a target exists already and is left out."""
        self.say(f"{self._place}{target}: exists, left out", event="skipped", target=target)

    def ended(self, *, made: int, skipped: int, failed: int) -> None:
        """Sum up several inputs."""
        parts = [f"{made} done", *[f"{skipped} left out"] * bool(skipped), f"{failed} failed"]
        parts.append(f"in {clock(time.perf_counter() - self._begin)}")
        self.say(", ".join(parts), event="end", made=made, skipped=skipped, failed=failed)

    def predicted(self, source: str, target: str, prediction: Prediction, models: Sequence[Model]) -> None:
        """Write the one line before the start: from where to where, size, time, memory, disk and models."""
        self._total = prediction.frames
        parts = [f"{prediction.width}x{prediction.height}", *_costs(prediction)]
        fields = {name: getattr(prediction, name) for name in prediction.__slots__}
        text = f"{self._place}{source} -> {target}: {', '.join(parts)} ({', '.join(_models(models))})"
        self.say(text, event="predicted", source=source, target=target, **fields)

    @contextmanager
    def running(self, name: str, progress: Progress) -> Iterator[Callable[[], None]]:
        """Show the progress of a run; yields what is to be called after each frame."""
        self._started = time.perf_counter()
        self._warned = 0
        if self._json or self._quiet or not self._console.is_terminal:
            yield self._plain(name, progress)
            return
        wide, width = self._console.width >= NARROW, self._console.width
        what = shortened(f"{self._place}{name}", width - NUMBERS if wide else width * 2 // 5 - 6)
        columns: list[ProgressColumn] = [
            TextColumn("{task.description}", markup=False),
            *[BarColumn()] * wide,
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}"),
            *[TimeElapsedColumn()] * wide,
            TimeRemainingColumn(),
        ]
        with Bar(*columns, console=self._console, transient=True) as bar:
            task = bar.add_task(what, total=self._total, speed="")

            def tick() -> None:
                self._warn_new(progress)
                bar.update(task, completed=progress.frames_out, speed=f"{self._speed(progress):.1f} fps")

            yield tick

    @contextmanager
    def working(self, name: str) -> Iterator[None]:
        """Show, on a terminal, that one image is being upscaled."""
        self._started = time.perf_counter()
        shown = self._console.is_terminal and not self._json and not self._quiet
        with self._console.status(escape(f"{self._place}{name}")) if shown else nullcontext():
            yield

    def saved(
        self, source: str, target: str, size: tuple[int, int], models: Sequence[Model], *, compared: bool
    ) -> None:
        """Write the line at the end of an image."""
        wall = time.perf_counter() - self._started
        what = ", before on the left, after on the right" * compared
        width, height = size
        text = f"{target}: {width}x{height}{what}, {clock(wall)}"
        fields = {"source": source, "target": target, "width": width, "height": height, "seconds": round(wall, 3)}
        self.say(text, event="done", **fields, models=_models(models))

    def done(self, source: str, target: str, progress: Progress, models: Sequence[Model]) -> None:
        """Write the lines at the end: frames in and out, repairs, warnings, speed by stage."""
        wall = time.perf_counter() - self._started
        self._warn_new(progress)
        resumed = f" ({progress.frames_resumed} were there already)" if progress.frames_resumed else ""
        frames = f"{counted(progress.frames_in, 'frame')} in, {progress.frames_out} out{resumed}"
        summary = f"{target}: {frames}, {clock(wall)}, {self._speed(progress):.2f} fps"
        if self._json:
            fields = {"source": source, "target": target, "seconds": round(wall, 3), **_results(progress)}
            self.say(summary, event="done", **fields, models=_models(models))
            return
        self.say(summary)
        if self._verbose:
            self.say(f"  frames per second of each stage while it works: {_stage_speeds(progress)}")
        if progress.repairs:
            self.say(f"  repairs: {progress.repairs}")

    def _warn_new(self, progress: Progress) -> None:
        """Report the warnings of a run as soon as there are any: before the first frame, mostly."""
        for warning in progress.warnings[self._warned :]:
            self.warn(warning)
        self._warned = len(progress.warnings)

    def _speed(self, progress: Progress) -> float:
        return (progress.frames_out - progress.frames_resumed) / max(1e-9, time.perf_counter() - self._started)

    def _plain(self, name: str, progress: Progress) -> Callable[[], None]:
        last = time.perf_counter()

        def tick() -> None:
            nonlocal last
            self._warn_new(progress)
            if time.perf_counter() - last >= PLAIN_SECONDS:
                last = time.perf_counter()
                of = f" of {self._total}" if self._total else ""
                text = f"{self._place}{name}: {progress.frames_out}{of} frames, {self._speed(progress):.2f} fps"
                self.say(text, event="progress", frames_out=progress.frames_out, frames=self._total)

        return tick


class RemoteBar:
    """The progress of a server's job, on a terminal only; leaving its `with` removes it.

    endless: of a live run, which has no share; where no terminal is, as plain lines now and then.
    """

    def __init__(self, text: str, *, endless: bool = False) -> None:
        shares: tuple[ProgressColumn, ...] = () if endless else (BarColumn(), TaskProgressColumn())
        columns = (TextColumn("{task.description}", table_column=Column(no_wrap=True)), *shares, TimeElapsedColumn())
        self._console = Console(stderr=True)
        self._plain = endless and not sys.stderr.isatty()
        self._written = time.monotonic()
        self._progress = Bar(*columns, console=self._console, transient=True, disable=not sys.stderr.isatty())
        self._task = self._progress.add_task(text, total=None if endless else 100.0)
        self._warned = 0

    def __enter__(self) -> "RemoteBar":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, text: str, percent: float) -> None:
        """Show the progress of the job."""
        self._progress.update(self._task, description=text, completed=percent)
        if self._plain and time.monotonic() - self._written >= ENDLESS_SECONDS:
            self._written = time.monotonic()
            self.say(text)

    def say(self, text: str) -> None:
        """Write one line above the bar."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def warn(self, warnings: Sequence[str]) -> None:
        """Write what is new among all warnings so far."""
        for warning in warnings[self._warned :]:
            self.say(f"note: {warning}")
        self._warned = len(warnings)


def shortened(text: str, room: int) -> str:
    """Leave out the middle of a text that takes more cells of a terminal than there are."""
    left, right = text[: len(text) // 2], text[len(text) // 2 :]
    if cell_len(text) <= room:
        return text
    while left and right and cell_len(left) + cell_len(right) >= room:
        left, right = (left[:-1], right) if len(left) >= len(right) else (left, right[1:])
    return f"{left}…{right}"


def clock(seconds: float) -> str:
    """Format seconds as people say them."""
    if seconds < 1:
        return "a second"
    if seconds < 90:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _costs(prediction: Prediction) -> list[str]:
    """Format what a run will take: frames, time, memory, disk."""
    memory = f"memory {decimal(prediction.memory)}"
    if prediction.frames and prediction.seconds is not None and prediction.disk is not None:
        spool = [f"{decimal(count)} for a shot in {folder}" for folder, count in prediction.spool.items()]
        frames, seconds = counted(prediction.frames, "frame"), f"about {clock(prediction.seconds)}"
        return [frames, seconds, memory, f"disk {decimal(prediction.disk)}", *spool]
    speed = 1 / max(1e-9, prediction.frame_seconds)
    disk = f"disk {decimal(1000 * prediction.frame_disk)} every 1000 frames"
    return ["length unknown", f"about {counted(float(number(speed, 2)), 'frame')} a second", memory, disk]


def _models(models: Sequence[Model]) -> list[str]:
    return [f"{model.name} on {model.report}" for model in models]


def _results(progress: Progress) -> dict[str, object]:
    return {
        "frames_in": progress.frames_in,
        "frames_out": progress.frames_out,
        "frames_resumed": progress.frames_resumed,
        "stage_seconds": {stage: round(seconds, 3) for stage, seconds in progress.seconds.items()},
        "repairs": str(progress.repairs),
    }


def _stage_speeds(progress: Progress) -> str:
    made = progress.frames_out - progress.frames_resumed
    return ", ".join(f"{stage} {made / seconds:.1f}" for stage, seconds in progress.seconds.items() if seconds and made)
