"""What the command line shows: a progress bar on a terminal, plain lines elsewhere, or one JSON object a line."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from upres.engine.core.errors import UpresError
from upres.engine.core.text import counted
from upres.engine.pipeline.estimate import Prediction
from upres.engine.pipeline.run import Job, Progress

PLAIN_SECONDS = 5.0  # between two plain lines


class Show:
    """All that is said about a run goes through here, to stderr; with json, to stdout, unless the result goes there."""

    def __init__(self, *, json: bool, beside_data: bool = False) -> None:
        self._json = json
        self._out = sys.stderr if beside_data or sys.stdout is None else sys.stdout
        self._warned = 0
        self._console = Console(stderr=True)
        self._total: int | None = None
        self._started = time.perf_counter()

    def say(self, text: str, **fields: object) -> None:
        """One line, or one object with the line as its text."""
        if self._json:
            self._out.write(json.dumps({"text": text, **fields}) + "\n")
            self._out.flush()
        else:
            self._console.out(text, highlight=False)  # above a progress bar, where one is shown

    def warn(self, text: str) -> None:
        """A line that a user should not miss."""
        self.say(f"note: {text}", event="note")

    def fail(self, source: str, error: UpresError) -> None:
        """One input did not work; what is noted about it comes along."""
        notes = list(getattr(error, "__notes__", ()))
        text = "\n  ".join([str(error) if source in str(error) else f"{source}: {error}", *notes])
        self.say(text, event="failed", source=source, exit_code=error.exit_code)

    @contextmanager
    def failures(self, json: bool) -> Iterator[None]:
        """With json, an error is told as an object too, before it ends the command."""
        try:
            yield
        except UpresError as error:
            if json:
                notes = getattr(error, "__notes__", [])
                self.say(str(error), event="failed", exit_code=error.exit_code, notes=notes)
            raise

    def skipped(self, target: str) -> None:
        """A target that exists already is left out."""
        self.say(f"{target}: exists, left out", event="skipped", target=target)

    def ended(self, *, made: int, skipped: int, failed: int) -> None:
        """The line at the end of several inputs."""
        parts = [f"{made} done", *[f"{skipped} left out"] * bool(skipped), f"{failed} failed"]
        self.say(", ".join(parts), event="end", made=made, skipped=skipped, failed=failed)

    def predicted(self, source: str, prediction: Prediction, job: Job) -> None:
        """The one line before the start."""
        self._total = prediction.frames
        parts = [f"{prediction.width}x{prediction.height}"]
        if prediction.frames and prediction.seconds is not None and prediction.disk is not None:
            parts += [counted(prediction.frames, "frame"), f"about {clock(prediction.seconds)}"]
            parts += [f"memory {decimal(prediction.memory)}", f"disk {decimal(prediction.disk)}"]
            parts += [f"{decimal(count)} for a shot in {folder}" for folder, count in prediction.spool.items()]
        else:
            speed = 1 / max(1e-9, prediction.frame_seconds)
            parts += ["length unknown", f"about {speed:.2g} frames a second", f"memory {decimal(prediction.memory)}"]
            parts.append(f"disk {decimal(1000 * prediction.frame_disk)} every 1000 frames")
        how = ", ".join(f"{model.name} on {model.report}" for model in job.models)
        fields = {name: getattr(prediction, name) for name in prediction.__slots__}
        self.say(f"{source}: {', '.join(parts)} ({how})", event="predicted", source=source, **fields)

    @contextmanager
    def running(self, name: str, progress: Progress) -> Iterator[Callable[[], None]]:
        """Show progress while a run goes on; gives what is to be called after each frame."""
        self._started = time.perf_counter()
        self._warned = 0
        if self._json or not self._console.is_terminal:
            yield self._plain(name, progress)
            return
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}"),
        )
        with Bar(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=self._console, transient=True) as bar:
            task = bar.add_task(name, total=self._total, speed="")

            def tick() -> None:
                self._warn_new(progress)
                bar.update(task, completed=progress.frames_out, speed=f"{self._speed(progress):.1f} fps")

            yield tick

    def done(self, source: str, target: str, progress: Progress, job: Job) -> None:
        """The lines at the end: frames in and out, repairs, warnings, speed by stage."""
        wall = time.perf_counter() - self._started
        self._warn_new(progress)
        made = progress.frames_out - progress.frames_resumed
        resumed = f" ({progress.frames_resumed} from the log)" if progress.frames_resumed else ""
        stages = ", ".join(
            f"{stage} {made / seconds:.1f}" for stage, seconds in progress.seconds.items() if seconds and made
        )
        speed = self._speed(progress)
        frames = f"{counted(progress.frames_in, 'frame')} in, {progress.frames_out} out{resumed}"
        lines = (
            f"{target}: {frames}, {clock(wall)}, {speed:.2f} fps",
            f"  frames a second by stage, each while it works: {stages}",
            *([f"  repairs: {progress.repairs}"] if progress.repairs else []),
        )
        fields = {
            "source": source,
            "target": target,
            "frames_in": progress.frames_in,
            "frames_out": progress.frames_out,
        }
        fields |= {"frames_resumed": progress.frames_resumed, "seconds": round(wall, 3)}
        fields |= {
            "stage_seconds": {stage: round(s, 3) for stage, s in progress.seconds.items()},
            "repairs": str(progress.repairs),
        }
        fields |= {"models": [f"{model.name} on {model.report}" for model in job.models]}
        if self._json:
            self.say(lines[0], event="done", **fields)
        else:
            for line in lines:
                self.say(line)

    def _warn_new(self, progress: Progress) -> None:
        """Tell what a run has found worth telling, as soon as it has: before the first frame, mostly."""
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
                text = f"{name}: {progress.frames_out}{of} frames, {self._speed(progress):.2f} fps"
                self.say(text, event="progress", frames_out=progress.frames_out, frames=self._total)

        return tick


def clock(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 1:
        return "a second"
    if seconds < 90:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
