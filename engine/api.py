"""Functions of the Python interface: upscale a source into a file, or stream its fragments as they are produced."""

import tempfile
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from upres.engine.core.errors import SettingsError, UpresError
from upres.engine.core.model import Model
from upres.engine.decode.reader import Reader
from upres.engine.decode.source import Source
from upres.engine.encode.join.file import container_for, join
from upres.engine.encode.join.stream import StreamedFile, Writable
from upres.engine.encode.options import Encoder
from upres.engine.images import video
from upres.engine.models import registry
from upres.engine.models.catalog import DEFAULT_MODEL
from upres.engine.pipeline.admission import check_encoder_opens
from upres.engine.pipeline.estimate import Prediction
from upres.engine.pipeline.options import Job, after_prefilters, fitted
from upres.engine.pipeline.progress import Progress
from upres.engine.pipeline.resumable import log_beside, log_within
from upres.engine.pipeline.run import run
from upres.engine.pipeline.segment_length import cut_by_work
from upres.engine.pipeline.target import check_target
from upres.engine.ranges.process import Companion
from upres.engine.ranges.run import run_on
from upres.engine.segments.folder import FolderLog
from upres.engine.segments.model import Fragment, Track


def upscale(
    source: Source | Reader,
    target: str | Path | Writable,
    job: Job | None = None,
    *,
    model: str = DEFAULT_MODEL,
    scale: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
    tick: Callable[[], None] = lambda: None,
    companions: Sequence[Companion | Sequence[Model]] = (),
) -> Progress:
    """Upscale a source into a file, which appears under its final name only once it is complete; return the final progress.

    source: a path, an address, an open file or an open Reader. A Reader can be used only once, is closed at the end, and must have
    been opened with the job's cut, tone mapping and `nvdec`.
    target: a path or an open file. A name such as frame_%05d.png writes one image per frame; a name that ends in .gif, .webp or
    .apng writes an animated image. An open file receives the result while it is produced, as fragmented MP4 or as Matroska without
    an index.
    job: models and settings, with the container that the target's name implies; by default `model` with the default settings.
    scale: used with `model` if the model offers several scales; by default the largest.
    resume: continue from the log that an interrupted run left next to the target (`TARGET.upres`). The result is byte for byte the
    same as without the interruption.
    tick: called after every frame.
    companions: other devices that upscale ranges of the source concurrently with the job's models, see `ranges.run_on`. The result
    is byte for byte the same.
    Raises UpresError. No files are left behind then, unless the run can be resumed from them.
    """
    file = isinstance(target, str | Path) and not video.is_images(target)
    container = container_for(Path(str(target))) if file else "mp4"
    job = job or default_job(model, container, scale=scale)
    with prepared(source, target, job, resume=resume, overwrite=overwrite) as work:
        return replace(work, companions=tuple(companions)).run(progress, tick)


def stream(
    source: Source | Reader,
    job: Job | None = None,
    *,
    model: str = DEFAULT_MODEL,
    scale: int | None = None,
    progress: Progress | None = None,
) -> Generator[tuple[Track, Fragment, bytes]]:
    """Yield every fragment of the result as soon as it is produced, with its track and its bytes.

    A track's `init` followed by any suffix of its fragments is playable. The log is kept in a temporary folder, which is removed
    when the generator is closed.
    model, scale: as for `upscale`.
    """
    job = job or default_job(model, scale=scale)
    check_encoder_opens(job.encoder)
    with (
        tempfile.TemporaryDirectory(prefix="upres-") as folder,
        _opened(source, job) as reader,
    ):
        job = fitted(job, reader)
        with (
            closing(FolderLog(Path(folder), job.settings())) as log,
            closing(run(reader, job, log, progress or Progress())) as fragments,
        ):
            for fragment in fragments:
                yield log.tracks[fragment.track], fragment, log.read(fragment)


def default_job(model: str, container: str = "mp4", *, scale: int | None) -> Job:
    """Return a job with the default settings for a model that is loaded by name.

    Raises ModelError if the model is not installed, SettingsError if it does not offer this scale.
    """
    return Job((registry.load(model, scale=scale)[0],), Encoder().within(container), container)


@dataclass(frozen=True, slots=True)
class Prepared:
    """An open source and a target that has been checked; can be run once."""

    reader: Reader
    target: Path | Writable
    job: Job
    resume: bool
    companions: tuple[Companion | Sequence[Model], ...] = ()

    def cut_by_work(self, prediction: Prediction) -> "Prepared":
        """Return a copy whose segments take at most about 15 s of predicted work, or have the length used by a resumed log."""
        rate = after_prefilters(self.reader.info.shape, self.job.prefilters).rate
        resumes = self.target if self.resume and isinstance(self.target, Path) else None
        return replace(self, job=cut_by_work(self.job, prediction, rate, resumes))

    def fitted(self) -> "Prepared":
        """Return a copy with models for the source's bit depth, limited to the target's. Raises as `options.fitted` does."""
        images = isinstance(self.target, Path) and video.is_images(self.target)
        if images and self.reader.info.shape.deep:
            self.reader.limit("images have 8")
        return replace(self, job=fitted(self.job, self.reader, images=images))

    def with_encoders(self, prediction: Prediction) -> "Prepared":
        """Return a copy with the number of encoders that is predicted to keep up with its models."""
        return replace(self, job=replace(self.job, encoders=prediction.encoders))

    def run(self, progress: Progress | None = None, tick: Callable[[], None] = lambda: None) -> Progress:
        """Upscale the source into the target; return the final progress. tick: called after every frame."""
        progress = progress or Progress()
        if isinstance(self.target, Path) and video.is_images(self.target):
            video.write(self.reader, self.job, self.target, progress, tick, resume=self.resume)
        elif isinstance(self.target, Path):
            with log_beside(self.reader.source, self.target, self.job, resume=self.resume) as log:
                self._write_file(self.target, log, progress, tick)
        else:
            self._write_stream(self.target, progress, tick)
        return progress

    def _write_stream(self, target: Writable, progress: Progress, tick: Callable[[], None]) -> None:
        """Write the result while it is produced, with the log in a temporary folder."""
        with (
            tempfile.TemporaryDirectory(prefix="upres-") as folder,
            log_within(Path(folder), self.job) as log,
            StreamedFile(log, target, self.job.container) as file,
            closing(run(self.reader, self.job, log, progress, tick)) as fragments,
        ):
            for fragment in fragments:
                file.push(fragment)

    def _write_file(self, target: Path, log: FolderLog, progress: Progress, tick: Callable[[], None]) -> None:
        if self.companions:
            running = run_on(self.companions, self.reader, self.job, log, progress, tick)
        else:
            running = run(self.reader, self.job, log, progress, tick)
        with closing(running) as fragments:
            for _ in fragments:
                pass
        join(log, target, self.job.container)


@contextmanager
def prepared(
    source: Source | Reader,
    target: str | Path | Writable,
    job: Job,
    *,
    resume: bool = False,
    overwrite: bool = False,
) -> Iterator[Prepared]:
    """Open a source and check a target before any work is done; close the source at the end. Parameters as for `upscale`.

    Raises an error that lists the problems of both, of the type of the first problem found.
    """
    errors: list[UpresError] = []
    place = Path(target) if isinstance(target, str | Path) else target
    opened: AbstractContextManager[Reader] | None = None
    try:
        opened = _opened(source, job)
    except UpresError as error:
        errors.append(error)
    try:
        check_encoder_opens(job.encoder)
        if isinstance(place, Path):
            origin = source.source if isinstance(source, Reader) else source
            check_place(origin, place, job, overwrite=overwrite, resume=resume)
    except UpresError as error:
        errors.append(error)
    if opened is None:
        raise _joined(errors)
    with opened as reader:
        if errors:
            raise _joined(errors)
        job = job if isinstance(place, Path) else replace(job, streamed=True)
        work = Prepared(reader, place, job, resume)
        yield work.fitted() if job.models else work


def check_place(source: Source, place: Path, job: Job, *, overwrite: bool, resume: bool) -> None:
    """Raise TargetError or SettingsError if the result cannot be written to `place`, for instance because it is the source."""
    if video.is_images(place):
        video.check(source, place, job, overwrite=overwrite, resume=resume)
    else:
        check_target(source, place, job.container, overwrite=overwrite, resume=resume)


def _joined(errors: list[UpresError]) -> UpresError:
    return errors[0] if len(errors) == 1 else type(errors[0])("; ".join(map(str, errors)))


def _opened(source: Source | Reader, job: Job) -> Reader:
    if not isinstance(source, Reader):
        return Reader(source, cut=job.cut, tonemap=job.tonemap, nvdec=job.nvdec, eight_bits=None)
    if (source.cut, source.tonemap, source.nvdec) != (job.cut, job.tonemap, job.nvdec):
        raise SettingsError(
            "the open reader has another cut, tone mapping or decoder than the job; open it with the job's"
        )
    return source
