"""Videos of a command line, each upscaled to a video or to images."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from upres.engine.api import Prepared, check_place, prepared
from upres.engine.core.errors import TargetError, os_errors_as
from upres.engine.decode.info import Info
from upres.engine.decode.reader import Reader
from upres.engine.encode.options import Encoder
from upres.engine.images import video
from upres.engine.machine.freed_memory import keep_freed_memory
from upres.engine.pipeline import admission, estimate
from upres.engine.pipeline.options import Job
from upres.engine.pipeline.progress import Progress
from upres.engine.pipeline.resumable import resumed_models
from upres.service.cli.console import Report
from upres.service.cli.stdio import stdout

from .choice import Choice, Selection
from .container import container_of, encoder_of
from .dry_run import warn_about_existing_target
from .hints import image_as_video
from .options import RunOptions, Suffixes
from .pair import Pair
from .patience import check_patience
from .unused import Kind, Unused


@dataclass(frozen=True, slots=True)
class Videos:
    """Upscaler of videos with the same options. settings: the other fields of a Job. suffixes: of default names.

    selection: the models for all videos; None if each source decides. by_work: shorten segments that would take long to upscale.
    unused: reports options without effect.
    """

    choice: Choice
    selection: Selection | None
    encoder: Encoder
    settings: dict[str, Any]
    suffixes: Suffixes
    report: Report
    options: RunOptions
    by_work: bool
    unused: Unused

    def check(self, target: str) -> None:
        """Raise SettingsError if the container that a target's name implies does not support the codec."""
        self._container(target)

    def load(self, log: Path) -> None:
        """Load the models that the options name, if any, so that an error ends the whole batch. log: as for `_with_models`."""
        if self.selection is not None:
            self.choice.preload(self.selection, resumed=self._resumed(log))

    def file(self, pair: Pair, folder: Path | None) -> bool:
        """Upscale one input; returns False if it was skipped."""
        if pair.target is not None and self._skips(pair.target):
            return False
        with self._prepared(pair, folder) as (work, target):
            if work is None:
                return False
            prediction = estimate.predict(work.reader, work.job)
            images = target != "-" and video.is_images(target)
            self._note(pair, work, target, images=images)
            if images:
                prediction = video.predicted(prediction, Path(target))
            place = Path(tempfile.gettempdir()) if target == "-" else Path(target).absolute().parent
            admission.check_memory_and_disk(prediction, place)
            name = _name(pair.source, "stdin")
            self.report.predicted(name, _name(target, "stdout"), prediction, work.job.models)
            check_patience(
                prediction,
                work.job.models,
                _size(work),
                self.report,
                self.options,
                self.choice,
                piped=pair.source == "-",
            )
            if self.options.dry_run:
                self._warn_about_existing_target(work, target)
                return True
            if self.by_work and not images:
                work = work.cut_by_work(prediction)
            if prediction.encoders > 1:
                keep_freed_memory()
            self._run(work.with_encoders(prediction), name, target)
        return True

    def _note(self, pair: Pair, work: Prepared, target: str, *, images: bool) -> None:
        """Warn about likely mistakes: options that this result does not use, and a photo that becomes a video."""
        if images or target == "-":
            self.unused.note(Kind.IMAGES if images else Kind.STREAM)
        elif Path(target).suffix.lower() != self.suffixes.usual:
            self.unused.note(Kind.FILE)
        if not images and (hint := image_as_video(pair, work.reader.info.container)):
            self.report.warn(hint)

    def _warn_about_existing_target(self, work: Prepared, target: str) -> None:
        if target == "-":
            return

        def check(overwrite: bool) -> None:
            resume = self.options.resume
            check_place(work.reader.source, Path(target), work.job, overwrite=overwrite, resume=resume)

        warn_about_existing_target(self.report, self.options, check)

    def _run(self, work: Prepared, name: str, target: str) -> None:
        progress = Progress()
        with self.report.running(name, progress) as tick:
            work.run(progress, tick)
        self.report.done(name, _name(target, "stdout"), progress, work.job.models)

    @contextmanager
    def _prepared(self, pair: Pair, folder: Path | None) -> Iterator[tuple[Prepared | None, str]]:
        """Open a source, check its target and choose its models; the prepared run is None if the source is skipped."""
        source = pair.engine_source()
        how = {"resume": self.options.resume, "overwrite": self.options.overwrite or self.options.dry_run}
        if pair.target is not None:
            place = stdout() if pair.target == "-" else pair.target
            with prepared(source, place, self._job(pair.target), **how) as work:
                job = self._with_models(work.job, work.reader.info, folder or Path(pair.target))
                yield replace(work, job=job).fitted(), pair.target
            return
        part = {name: self.settings[name] for name in ("cut", "tonemap", "nvdec")}
        with Reader(source, **part, eight_bits=None) as reader:
            target = pair.target_name(self._size_in_name(reader.info), self.suffixes)
            if self._skips(target):
                yield None, target
                return
            job = self._with_models(self._job(target), reader.info, Path(target))
            with prepared(reader, target, job, **how) as work:
                yield work, target

    def _container(self, target: str) -> str:
        return container_of(target, self.encoder, self.suffixes.stdout)

    def _job(self, target: str) -> Job:
        """Return the job of a target, without models."""
        container = self._container(target)
        return Job((), encoder_of(target, self.encoder, container), container, **self.settings)

    def _with_models(self, job: Job, info: Info, log: Path) -> Job:
        """Return a job with its models. log: the target, or the folder of targets, whose interrupted run may be resumed."""
        selection = self._selection(info)
        models, notes = self.choice.load(selection, (info.shape.width, info.shape.height), self._resumed(log))
        for note in notes:
            self.report.warn(note)
        encoder = job.encoder
        if selection.resampled and encoder.height is None:
            encoder = replace(encoder, height=selection.times * info.shape.height)
        return replace(job, models=models, encoder=encoder)

    def _resumed(self, log: Path) -> tuple[str, ...]:
        return resumed_models(log) if self.options.resume else ()

    def _selection(self, info: Info) -> Selection:
        return self.selection or self.choice.recommended(min(info.shape.width, info.shape.height))

    def _size_in_name(self, info: Info) -> str:
        """Return the part of a default name that states the scale or height."""
        height = self.encoder.height
        return f"x{self._selection(info).times}" if height is None else f"{height}p"

    def _skips(self, target: str) -> bool:
        """Report whether an existing target is skipped, as --skip-existing asks for."""
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
