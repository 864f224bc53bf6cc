"""Videos of one command line, each upscaled into a video, or into images."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from upres.engine.api import Prepared, check_place, prepared
from upres.engine.core.errors import TargetError, os_errors_as
from upres.engine.core.model import Model
from upres.engine.decode.info import Info
from upres.engine.decode.reader import Reader
from upres.engine.encode.options import Encoder
from upres.engine.images import video
from upres.engine.pipeline import admission, estimate
from upres.engine.pipeline.options import Job
from upres.engine.pipeline.progress import Progress
from upres.engine.pipeline.resumable import resumed_models
from upres.service.cli.console import Report
from upres.service.cli.stdio import stdout

from .choice import Choice, Wanted
from .container import container_of, encoder_of
from .dry_run import say_what_is_there
from .hints import image_as_video
from .options import RunOptions, Suffixes
from .pair import Pair
from .patience import check_patience
from .unused import Kind, Unused


@dataclass(frozen=True, slots=True)
class Videos:
    """Upscale videos alike. settings: the rest of a Job's fields. suffixes: of names that are chosen here.

    wanted: the models of all; None where each source decides. by_work: segments are shorter than the encoder's where they would
    take long. unused: the options that were set.
    """

    choice: Choice
    wanted: Wanted | None
    encoder: Encoder
    settings: dict[str, Any]
    suffixes: Suffixes
    report: Report
    options: RunOptions
    by_work: bool
    unused: Unused

    def check(self, target: str) -> None:
        """Raise SettingsError where the codec does not go into what a name asks for."""
        self._container(target)

    def load(self, log: Path) -> None:
        """Load the models that were named, if any: what cannot be loaded ends all of it. log: as of `_chosen`."""
        if self.wanted is not None:
            self._models(self.wanted, log)

    def file(self, pair: Pair, folder: Path | None) -> bool:
        """Upscale one input; gives whether it was, rather than left out."""
        if pair.target is not None and self._skips(pair.target):
            return False
        with self._opened(pair, folder) as (work, target):
            if work is None:
                return False
            prediction = estimate.predict(work.reader, work.job)
            images = target != "-" and video.is_images(target)
            self._note(pair, work, target, images=images)
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
                self._say_what_is_there(work, target)
                return True
            if self.by_work and not images:
                work = work.cut_by_work(prediction)
            self._run(work.with_encoders(prediction), name, target)
        return True

    def _note(self, pair: Pair, work: Prepared, target: str, *, images: bool) -> None:
        """Report what may not have been meant: options that this result does not use, and a photo as a video."""
        if images or target == "-":
            self.unused.note(Kind.IMAGES if images else Kind.STREAM)
        elif Path(target).suffix.lower() != self.suffixes.usual:
            self.unused.note(Kind.FILE)
        if not images and (hint := image_as_video(pair, work.reader.info.container)):
            self.report.warn(hint)

    def _say_what_is_there(self, work: Prepared, target: str) -> None:
        if target == "-":
            return

        def check(overwrite: bool) -> None:
            resume = self.options.resume
            check_place(work.reader.source, Path(target), work.job, overwrite=overwrite, resume=resume)

        say_what_is_there(self.report, self.options, check)

    def _run(self, work: Prepared, name: str, target: str) -> None:
        progress = Progress()
        with self.report.running(name, progress) as tick:
            work.run(progress, tick)
        self.report.done(name, _name(target, "stdout"), progress, work.job.models)

    @contextmanager
    def _opened(self, pair: Pair, folder: Path | None) -> Iterator[tuple[Prepared | None, str]]:
        """Open a source and check its target, with the models that it gets; nothing is prepared of what is left out."""
        source = pair.opened()
        how = {"resume": self.options.resume, "overwrite": self.options.overwrite or self.options.dry_run}
        if pair.target is not None:
            place = stdout() if pair.target == "-" else pair.target
            with prepared(source, place, self._job(pair.target), **how) as work:
                job = self._chosen(work.job, work.reader.info, folder or Path(pair.target))
                yield replace(work, job=job).fitted(), pair.target
            return
        cut, tonemap = self.settings["cut"], self.settings["tonemap"]
        with Reader(source, cut=cut, tonemap=tonemap, eight_bits=None) as reader:
            target = pair.named(self._upscaled(reader.info), self.suffixes)
            if self._skips(target):
                yield None, target
                return
            job = self._chosen(self._job(target), reader.info, Path(target))
            with prepared(reader, target, job, **how) as work:
                yield work, target

    def _container(self, target: str) -> str:
        return container_of(target, self.encoder, self.suffixes.stdout)

    def _job(self, target: str) -> Job:
        """Make the job of a target, whose models are still to be chosen."""
        container = self._container(target)
        return Job((), encoder_of(target, self.encoder, container), container, **self.settings)

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
            skips = self.options.skip_existing and target != "-" and (Path(target).exists() or video.is_done(target))
        if skips:
            self.report.skipped(target)
        return skips


def _size(work: Prepared) -> tuple[int, int]:
    """Return the width and height of the frames that go into the models."""
    shape = work.reader.info.shape
    return shape.width, shape.height


def _name(place: str, stream: str) -> str:
    return stream if place == "-" else place
