"""Output of the command line: a progress bar on a terminal, plain lines elsewhere, or one JSON object per line."""

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

from .flags import with_flags

PLAIN_SECONDS = 5.0  # between two plain progress lines
ENDLESS_SECONDS = 10.0  # between two progress lines of a run that may last for days
NUMBERS = 50  # minimum width of a bar and its numbers, in terminal cells
NARROW = 70  # a terminal with fewer cells has no room for all columns


class Report:
    """Reports on runs, written to stderr; with json, to stdout unless the result goes there. quiet: report failures only."""

    def __init__(self, *, json: bool, beside_data: bool = False, quiet: bool = False, verbose: bool = False) -> None:
        self._json, self._quiet, self._verbose = json, quiet, verbose
        self._place, self._first = "", True
        self._out = sys.stderr if beside_data or sys.stdout is None else sys.stdout
        self._warned = 0
        self._console = Console(stderr=True)
        self._total: int | None = None
        self._begin = self._started = time.perf_counter()

    def info(self, text: str, **fields: object) -> None:
        """Write one line, or one JSON object with the line as its text; setting names in the text are replaced with flags."""
        if not self._quiet:
            self._write(text, **fields)

    def _write(self, text: str, **fields: object) -> None:
        text = with_flags(text)
        if self._json:
            self._out.write(json.dumps({"text": text, **fields}) + "\n")
            self._out.flush()
        else:
            self._console.out(text, highlight=False)  # above the progress bar, if one is shown

    def confirm(self, question: str) -> bool:
        """Ask a yes-or-no question, with no as the default; the answer for the first of several inputs applies to all.

        The person who started the command may have left, and a question between two inputs would stop the rest.
        """
        return not self._first or typer.confirm(question, err=True)

    def begin_input(self, number: int, of: int) -> None:
        """Set which of several inputs the following reports are about."""
        self._place, self._first = f"{number} of {of}: " * (of > 1), number == 1

    def warn(self, text: str, **fields: object) -> None:
        """Write a note that a user should not miss."""
        self.info(f"note: {text}", event="note", **fields)

    def fail(self, source: str, error: UpresError) -> None:
        """Report that one input failed, with the notes of its error."""
        notes = list(getattr(error, "__notes__", ()))
        text = "\n  ".join([str(error) if source in str(error) else f"{source}: {error}", *notes])
        self._write(f"{self._place}{text}", event="failed", source=source, exit_code=error.exit_code)

    @contextmanager
    def failures(self) -> Iterator[None]:
        """With json, report an error as an object instead of text, and end the command with its exit code."""
        try:
            yield
        except UpresError as error:
            if not self._json:
                raise
            notes = [with_flags(note) for note in getattr(error, "__notes__", [])]
            self._write(str(error), event="failed", exit_code=error.exit_code, notes=notes)
            raise typer.Exit(error.exit_code) from error

    def skipped(self, target: str) -> None:
        """Report that an input is skipped because its target exists."""
        self.info(f"{self._place}{target}: exists, skipped", event="skipped", target=target)

    def ended(self, *, done: int, skipped: int, failed: int, dry_run: bool = False) -> None:
        """Write the summary of several inputs."""
        parts = [
            f"{done} {'checked' if dry_run else 'done'}",
            *[f"{skipped} skipped"] * bool(skipped),
            f"{failed} failed",
        ]
        parts.append(f"in {duration_text(time.perf_counter() - self._begin)}")
        self.info(", ".join(parts), event="end", made=done, skipped=skipped, failed=failed)

    def predicted(self, source: str, target: str, prediction: Prediction, models: Sequence[Model]) -> None:
        """Write the line before the start: source, target, size, time, memory, disk space and models."""
        self._total = prediction.frames
        parts = [f"{prediction.width}x{prediction.height}", *_costs(prediction)]
        fields = {name: getattr(prediction, name) for name in prediction.__slots__}
        text = f"{self._place}{source} -> {target}: {', '.join(parts)} ({', '.join(_models(models))})"
        self.info(text, event="predicted", source=source, target=target, **fields)

    @contextmanager
    def running(self, name: str, progress: Progress) -> Iterator[Callable[[], None]]:
        """Show the progress of a run; yields the function to call after each frame."""
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
        """Show on a terminal that an image is being upscaled."""
        self._started = time.perf_counter()
        shown = self._console.is_terminal and not self._json and not self._quiet
        with self._console.status(escape(f"{self._place}{name}")) if shown else nullcontext():
            yield

    def saved(
        self, source: str, target: str, size: tuple[int, int], models: Sequence[Model], *, compared: bool
    ) -> None:
        """Write the final line of an image."""
        wall = time.perf_counter() - self._started
        what = ", before on the left, after on the right" * compared
        width, height = size
        text = f"{target}: {width}x{height}{what}, {duration_text(wall)}"
        fields = {"source": source, "target": target, "width": width, "height": height, "seconds": round(wall, 3)}
        self.info(text, event="done", **fields, models=_models(models))

    def done(self, source: str, target: str, progress: Progress, models: Sequence[Model]) -> None:
        """Write the final lines of a video: frames in and out, repairs, warnings, speed of each stage."""
        wall = time.perf_counter() - self._started
        self._warn_new(progress)
        resumed = f" ({progress.frames_resumed} from the interrupted run)" if progress.frames_resumed else ""
        frames = f"{counted(progress.frames_in, 'frame')} in, {progress.frames_out} out{resumed}"
        summary = f"{target}: {frames}, {duration_text(wall)}, {self._speed(progress):.2f} fps"
        if self._json:
            fields = {"source": source, "target": target, "seconds": round(wall, 3), **_results(progress)}
            self.info(summary, event="done", **fields, models=_models(models))
            return
        self.info(summary)
        if self._verbose:
            self.info(f"  frames per second of each stage while busy: {_stage_speeds(progress)}")
        if progress.repairs:
            self.info(f"  repairs: {progress.repairs}")

    def _warn_new(self, progress: Progress) -> None:
        """Report new warnings of a run as soon as they exist: usually before the first frame."""
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
                self.info(text, event="progress", frames_out=progress.frames_out, frames=self._total)

        return tick


class RemoteBar:
    """A progress bar for a server's job, shown on terminals only and removed when its `with` block ends.

    endless: for a live run, which has no percentage; without a terminal, its progress is written as occasional plain lines.
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
        """Update the progress."""
        self._progress.update(self._task, description=text, completed=percent)
        if self._plain and time.monotonic() - self._written >= ENDLESS_SECONDS:
            self._written = time.monotonic()
            self.info(text)

    def info(self, text: str) -> None:
        """Write one line above the bar."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def warn(self, warnings: Sequence[str]) -> None:
        """Write the warnings that have not been written yet. warnings: all warnings so far."""
        for warning in warnings[self._warned :]:
            self.info(f"note: {warning}")
        self._warned = len(warnings)


def shortened(text: str, room: int) -> str:
    """Replace the middle of a text with an ellipsis if it is wider than a number of terminal cells."""
    start, end = text[: len(text) // 2], text[len(text) // 2 :]
    if cell_len(text) <= room:
        return text
    while start and end and cell_len(start) + cell_len(end) >= room:
        start, end = (start[:-1], end) if len(start) >= len(end) else (start, end[1:])
    return f"{start}…{end}"


def duration_text(seconds: float) -> str:
    """Format a duration for people."""
    if seconds < 90:
        return f"{max(seconds, 0.1):.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _costs(prediction: Prediction) -> list[str]:
    """Format the expected cost of a run: frames, time, memory, disk space."""
    memory = f"memory {decimal(prediction.memory)}"
    if prediction.frames and prediction.seconds is not None and prediction.disk is not None:
        spool = [f"{decimal(count)} per shot in {folder}" for folder, count in prediction.spool.items()]
        frames, seconds = counted(prediction.frames, "frame"), f"about {duration_text(prediction.seconds)}"
        return [frames, seconds, memory, f"disk {decimal(prediction.disk)}", *spool]
    speed = 1 / max(1e-9, prediction.frame_seconds)
    disk = f"disk {decimal(1000 * prediction.frame_disk)} per 1000 frames"
    return ["length unknown", f"about {counted(float(number(speed, 2)), 'frame')} per second", memory, disk]


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
    frames = progress.frames_out - progress.frames_resumed
    seconds_by_stage = {stage: seconds for stage, seconds in progress.seconds.items() if seconds and frames}
    return ", ".join(f"{stage} {frames / seconds:.1f}" for stage, seconds in seconds_by_stage.items())
