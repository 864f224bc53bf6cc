"""The inputs of one command line, upscaled one after the other."""

import glob
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader, RawIOBase
from pathlib import Path
from typing import IO, Any

from upres.engine.api import prepared
from upres.engine.core.errors import Interrupted, SettingsError, SourceError, TargetError, UpresError, os_errors_as
from upres.engine.core.model import Model
from upres.engine.core.text import counted
from upres.engine.decode.source import kind_of
from upres.engine.encode.join.file import CONTAINERS
from upres.engine.encode.options import Encoder
from upres.engine.pipeline import admission, estimate
from upres.engine.pipeline.options import Job
from upres.engine.pipeline.progress import Progress

from .console import Report
from .run_options import RunOptions

VIDEO_NAMES = "3gp asf avi divx dv flv gif m2ts m2v m4v mkv mov mp4 mpeg mpg mts mxf ogg ogm ogv rm ts vob webm wmv y4m"
VIDEO_SUFFIXES = frozenset(f".{name}" for name in VIDEO_NAMES.split())

Pair = tuple[str, str]


def pairs(source: str, target: str, suffix: str) -> tuple[list[Pair], Path | None]:
    """Pair inputs with outputs; gives the pairs, and the folder that is to be made for them, if any.

    What a folder or a glob holds goes into a folder, under its own name with another suffix.
    Raises SourceError where nothing is found, SettingsError where several inputs would go into one file.
    """
    path, folder = Path(source), Path(target)
    with os_errors_as(source, SourceError):
        single = (
            source == "-"
            or kind_of(source) != "file"
            or path.is_file()
            or not (path.is_dir() or glob.has_magic(source))
        )
        videos = [] if single else _videos(source)
    with os_errors_as(target, TargetError):
        inside, taken = target != "-" and folder.is_dir(), folder.is_file()
    if single:
        return [(source, str(folder / f"{path.stem}{suffix}") if inside else target)], None
    if folder.suffix or taken or target == "-":
        raise SettingsError(f"{len(videos)} inputs need a folder to go to; {target} is not one")
    stems = Counter(video.stem for video in videos)
    names = [video.stem if stems[video.stem] == 1 else video.name for video in videos]
    return [(str(video), str(folder / f"{name}{suffix}")) for video, name in zip(videos, names, strict=True)], folder


def _videos(source: str) -> list[Path]:
    path = Path(source)
    if path.is_dir():
        videos = sorted(file for file in path.iterdir() if file.suffix.lower() in VIDEO_SUFFIXES)
        if not videos:
            passed = f"; {note}" if (note := not_searched(source)) else ""
            raise SourceError(f"{source}: the folder holds no video (looked for {VIDEO_NAMES}){passed}")
        return videos
    found = sorted(Path(name) for name in glob.glob(source, recursive=True))  # noqa: PTH207 - absolute patterns too
    videos = [file for file in found if file.suffix.lower() in VIDEO_SUFFIXES]
    if not videos:
        raise SourceError(f"{source}: no video matches")
    return videos


def not_searched(source: str) -> str | None:
    """Name what is not searched in a folder: the folders in it, except logs of interrupted runs."""
    path = Path(source)
    with os_errors_as(source, SourceError):
        inner = [place for place in path.iterdir() if place.is_dir()] if path.is_dir() else []
    count = sum(not place.name.startswith(".") and place.suffix != ".upres" for place in inner)
    if not count:
        return None
    return f"not searched: {counted(count, 'folder')} in {source}; '{path}/**/*.*' reaches into them"


@dataclass(frozen=True, slots=True)
class Batch:
    """Upscale several inputs alike. settings: the rest of a Job's fields. stdout_suffix: the container for `-`.

    by_work: segments are shorter than the encoder's where they would take long.
    """

    models: tuple[Model, ...]
    encoder: Encoder
    settings: dict[str, Any]
    stdout_suffix: str
    report: Report
    options: RunOptions
    by_work: bool

    def run(self, every: list[Pair], folder: Path | None) -> int:
        """Upscale all; gives the exit code. A single input's error is raised; one of several is reported and skipped."""
        chosen = [pair for pair in every if not self._skips(pair[1])]
        jobs = [Job(self.models, self.encoder, self._container(target), **self.settings) for _, target in chosen]
        if folder is not None:
            _make(folder)
        code = failed = 0
        for (source, target), job in zip(chosen, jobs, strict=True):
            try:
                self._one(source, target, job)
            except Interrupted:
                raise
            except UpresError as error:
                if len(every) == 1:
                    raise
                self.report.fail(source, error)
                code, failed = code or error.exit_code, failed + 1
        if len(every) > 1:
            self.report.ended(made=len(chosen) - failed, skipped=len(every) - len(chosen), failed=failed)
        return code

    def _skips(self, target: str) -> bool:
        """Report and leave out a target that exists already, with --skip-existing."""
        with os_errors_as(target, TargetError):
            skips = self.options.skip_existing and target != "-" and Path(target).exists()
        if skips:
            self.report.skipped(target)
        return skips

    def _one(self, source: str, target: str, job: Job) -> None:
        name, opened = ("stdin", stdin()) if source == "-" else (source, source)
        folder = tempfile.gettempdir() if target == "-" else Path(target).absolute().parent
        place = stdout() if target == "-" else target
        with prepared(opened, place, job, resume=self.options.resume, overwrite=self.options.overwrite) as work:
            prediction = estimate.predict(work.reader, job)
            admission.refuse_what_cannot_fit(prediction, Path(folder))
            self.report.predicted(name, prediction, job)
            if not self.options.yes:
                admission.refuse_what_takes_long(prediction, job.models)
            if self.by_work:
                work = work.cut_by_work(prediction)
            work = work.with_encoders(prediction)
            progress = Progress()
            with self.report.running(name, progress) as tick:
                work.run(progress, tick)
            self.report.done(name, target, progress, job)

    def _container(self, target: str) -> str:
        """Choose the container of a target; for a name without one, one that the check of the target then refuses."""
        suffix = self.stdout_suffix if target == "-" else Path(target).suffix
        container = CONTAINERS.get(suffix.lower(), "mp4")
        if self.encoder.codec == "lossless" and container != "matroska":
            name = "use --container mkv" if target == "-" else f"name the output {Path(target).stem}.mkv"
            raise SettingsError(f"--lossless writes RGB H.264, which players know in .mkv only; {name}")
        return container


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise Interrupted for Ctrl-C and SIGTERM, with what was noted about resuming."""
    try:
        yield
    except KeyboardInterrupt as stop:
        error = Interrupted("interrupted")
        for note in getattr(stop, "__notes__", ("nothing is kept: it had not started yet",)):
            error.add_note(note)
        raise error from stop


def stdin() -> RawIOBase:
    """Open standard input as bytes, unbuffered: a thread that still waits in it holds no lock when the program ends.

    Raises SourceError where it is closed, or a terminal.
    """
    if sys.stdin is None:
        raise SourceError("standard input is closed, so - cannot be read; name a file")
    if sys.stdin.isatty():
        raise SourceError("standard input is a terminal; pipe a video in, cat in.mp4 | upres - out.mp4, or name a file")
    assert isinstance(sys.stdin.buffer, BufferedReader)
    raw: RawIOBase = sys.stdin.buffer.raw
    return raw


def stdout() -> IO[bytes]:
    """Open standard output as bytes; raises TargetError where it is closed, or a terminal."""
    if sys.stdout is None:
        raise TargetError("standard output is closed, so - cannot be written; name a file")
    if sys.stdout.isatty():
        raise TargetError(
            "standard output is a terminal, which cannot show a video; send it into a file, upres in.mp4 - > out.mkv, "
            "or into a program, upres in.mp4 - | ffplay -"
        )
    return sys.stdout.buffer


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TargetError(f"{folder}: the folder cannot be made ({error.strerror})") from error
