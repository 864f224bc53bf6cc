"""The inputs of one command line, upscaled one after the other."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from upres.engine.api import Prepared, prepared
from upres.engine.core.errors import Interrupted, SettingsError, TargetError, UpresError, os_errors_as
from upres.engine.core.model import Model
from upres.engine.decode.info import Info
from upres.engine.decode.reader import Reader
from upres.engine.encode.join.file import CONTAINERS
from upres.engine.encode.options import Encoder
from upres.engine.images import video
from upres.engine.pipeline import admission, estimate
from upres.engine.pipeline.options import Job
from upres.engine.pipeline.progress import Progress
from upres.engine.pipeline.resumable import resumed_models
from upres.service.cli.console import Report
from upres.service.cli.stdio import stdout

from .choice import Choice, Wanted
from .hints import hints
from .inputs import Pair
from .options import SUFFIXES, RunOptions
from .patience import check_patience
from .stills import Stills


@dataclass(frozen=True, slots=True)
class Batch:
    """Upscale several inputs alike. settings: the rest of a Job's fields. suffix: of names that are chosen here.

    wanted: the models of all; None where each source decides. stdout_suffix: the container for `-`. by_work: segments are
    shorter than the encoder's where they would take long. stills: what upscales images that do not move. at: the time of the one
    frame that is wanted of each video.
    """

    choice: Choice
    wanted: Wanted | None
    encoder: Encoder
    settings: dict[str, Any]
    suffix: str
    stdout_suffix: str
    report: Report
    options: RunOptions
    by_work: bool
    stills: Stills
    at: Fraction | None = None

    def run(self, every: Sequence[Pair], folder: Path | None) -> int:
        """Upscale all; gives the exit code. A single input's error is raised; one of several is reported and skipped."""
        for pair in every:
            if pair.target is not None and self.at is None and not self.stills.takes(pair):
                self._container(pair.target)
        if self.wanted is not None and len(every) > 1:  # what cannot be loaded ends all of it
            self._models(self.wanted, folder or Path(every[0].source))
        with _made(folder):
            return self._each(every, folder)

    def _each(self, every: Sequence[Pair], folder: Path | None) -> int:
        code = failed = skipped = 0
        for number, pair in enumerate(every, 1):
            self.report.counts(number, len(every))
            try:
                skipped += not self._one(pair, folder)
            except Interrupted:
                raise
            except UpresError as error:
                for hint in hints(pair, error, overwrite=self.options.overwrite):
                    error.add_note(hint)
                if len(every) == 1:
                    raise
                self.report.fail(pair.source, error)
                code, failed = code or error.exit_code, failed + 1
        if len(every) > 1:
            self.report.ended(made=len(every) - skipped - failed, skipped=skipped, failed=failed)
        return code

    def _one(self, pair: Pair, folder: Path | None) -> bool:
        """Upscale one input; gives whether it was, rather than left out."""
        if self.at is not None:
            return self.stills.frame(pair, self.at, tonemap=self.settings["tonemap"])
        if self.stills.takes(pair):
            return self.stills.file(pair)
        if pair.target is not None and self._skips(pair.target):
            return False
        with self._opened(pair, folder) as (work, target):
            if work is None:
                return False
            prediction = estimate.predict(work.reader, work.job)
            images = video.is_images(target)
            if images:
                prediction = video.predicted(prediction, Path(target))
            place = Path(tempfile.gettempdir()) if target == "-" else Path(target).absolute().parent
            admission.refuse_what_cannot_fit(prediction, place)
            name = _name(pair.source, "stdin")
            self.report.predicted(name, _name(target, "stdout"), prediction, work.job.models)
            check_patience(
                prediction, work.job.models, _size(work), self.report, self.options, piped=pair.source == "-"
            )
            if self.options.dry_run:
                return True
            if self.by_work and not images:
                work = work.cut_by_work(prediction)
            self._run(work.with_encoders(prediction), name, target)
        return True

    def _run(self, work: Prepared, name: str, target: str) -> None:
        progress = Progress()
        with self.report.running(name, progress) as tick:
            work.run(progress, tick)
        self.report.done(name, target, progress, work.job.models)

    @contextmanager
    def _opened(self, pair: Pair, folder: Path | None) -> Iterator[tuple[Prepared | None, str]]:
        """Open a source and check its target, with the models that it gets; nothing is prepared of what is left out."""
        source = pair.opened()
        how = {"resume": self.options.resume, "overwrite": self.options.overwrite}
        if pair.target is not None:
            place = stdout() if pair.target == "-" else pair.target
            with prepared(source, place, self._job(pair.target), **how) as work:
                job = self._chosen(work.job, work.reader.info, folder or Path(pair.target))
                yield replace(work, job=job).fitted(), pair.target
            return
        cut, tonemap = self.settings["cut"], self.settings["tonemap"]
        with Reader(source, cut=cut, tonemap=tonemap, eight_bits=None) as reader:
            target = pair.named(self._upscaled(reader.info), self.suffix)
            if self._skips(target):
                yield None, target
                return
            job = self._chosen(self._job(target), reader.info, Path(target))
            with prepared(reader, target, job, **how) as work:
                yield work, target

    def _job(self, target: str) -> Job:
        """Make the job of a target, whose models are still to be chosen."""
        return Job((), self.encoder, self._container(target), **self.settings)

    def _chosen(self, job: Job, info: Info, log: Path) -> Job:
        """Give a job its models. log: the target, or the folder of targets, whose interrupted run may be resumed."""
        wanted = self._wanted(info)
        models = self._models(wanted, log)
        encoder = job.encoder
        if wanted.resampled and encoder.height is None:
            encoder = replace(encoder, height=wanted.times * info.shape.height)
        return replace(job, models=models, encoder=encoder)

    def _models(self, wanted: Wanted, log: Path) -> tuple[Model, ...]:
        models, notes = self.choice.load(wanted, resumed_models(log) if self.options.resume else ())
        for note in notes:
            self.report.warn(note)
        return models

    def _wanted(self, info: Info) -> Wanted:
        return self.wanted or self.choice.advised(min(info.shape.width, info.shape.height))

    def _upscaled(self, info: Info) -> str:
        """Say in a name how a source is upscaled."""
        height = self.encoder.height
        return f"x{self._wanted(info).times}" if height is None else f"{height}p"

    def _skips(self, target: str) -> bool:
        """Report and leave out a target that exists already, with --skip-existing."""
        with os_errors_as(target, TargetError):
            skips = self.options.skip_existing and target != "-" and Path(target).exists()
        if skips:
            self.report.skipped(target)
        return skips

    def _container(self, target: str) -> str:
        """Choose the container of a target; for a name without one, one that the check of the target then refuses."""
        if target != "-" and video.is_images(target):
            return self._container_of_images(target)
        suffix = self.stdout_suffix if target == "-" else Path(target).suffix
        container = CONTAINERS.get(suffix.lower(), "mp4")
        if self.encoder.codec == "lossless" and container != "matroska":
            name = "use --container mkv" if target == "-" else f"name the output {Path(target).stem}.mkv"
            raise SettingsError(f"--lossless writes RGB H.264, which players know in .mkv only; {name}")
        return self._taken(container, target)

    def _container_of_images(self, target: str) -> str:
        """Give one that takes the codec, since none is needed; SettingsError where a codec was named."""
        if self.encoder.codec not in ("auto", "lossless"):
            raise SettingsError(f"{target} is made of images, which no --codec encodes; leave it out, or name a video")
        return "matroska" if self.encoder.codec == "lossless" else "mp4"

    def _taken(self, container: str, target: str) -> str:
        """Check that a container takes the codec; SettingsError that says which ones do."""
        containers = self.encoder.facts.containers
        if container not in containers:
            suffixes = [SUFFIXES[each] for each in containers]
            names = [
                f"--container {suffix[1:]}" if target == "-" else f"{Path(target).stem}{suffix}" for suffix in suffixes
            ]
            raise SettingsError(
                f"{self.encoder.codec} does not go into {SUFFIXES[container]}; name {' or '.join(names)}"
            )
        return container


def _size(work: Prepared) -> tuple[int, int]:
    """Return the width and height of the frames that go into the models."""
    shape = work.reader.info.shape
    return shape.width, shape.height


def _name(place: str, stream: str) -> str:
    return stream if place == "-" else place


@contextmanager
def _made(folder: Path | None) -> Iterator[None]:
    """Make a folder where it is not there yet; it is taken away again where nothing has come into it."""
    missing = [place for place in (folder, *folder.parents) if not place.exists()] if folder is not None else []
    try:
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TargetError(f"{folder}: the folder cannot be made ({error.strerror})") from error
    try:
        yield
    finally:
        for place in missing:
            if any(place.iterdir()):
                break
            place.rmdir()
