"""Videos written as numbered images or as one animated image. There is no log: each image is either complete or missing."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from upres.engine.core.errors import SettingsError, TargetError, UpresError, os_errors_as
from upres.engine.core.frame import Frame, Shape
from upres.engine.decode.inventory import Kind
from upres.engine.decode.numbered import ImageSequence, is_sequence
from upres.engine.decode.reader import Reader
from upres.engine.decode.source import Source, sequence_of
from upres.engine.models.chain import Chain
from upres.engine.pipeline.estimate import Prediction
from upres.engine.pipeline.frames import ahead, interlacing_warnings, model_frames
from upres.engine.pipeline.options import Job, after_prefilters, resolved
from upres.engine.pipeline.progress import Progress
from upres.engine.pipeline.resumable import fingerprint
from upres.engine.pipeline.target import check_target, path_problems

from .formats import FORMATS, Format, is_image_name
from .moving import MOVING, Moving, MovingWriter
from .sequence import SequenceWriter, are_done, check_none


class Writer(Protocol):
    """Writes frames in order. complete: number of frames that are written already."""

    complete: int

    def add(self, frame: Frame) -> None:
        """Write the next frame."""
        ...

    def finish(self) -> list[str]:
        """Complete the result; return messages for the user."""
        ...

    def stop(self) -> str:
        """Return a message that states what is kept of a run that ends early."""
        ...


def is_images(target: str | Path) -> bool:
    """Report whether a name asks for images: it has a placeholder for a number, or the suffix of an animated image format."""
    return is_numbered(target) or Path(target).suffix.lower() in MOVING


def is_numbered(target: str | Path) -> bool:
    """Report whether a name asks for numbered images."""
    return is_image_name(target) and is_sequence(str(target))


def is_done(target: str | Path) -> bool:
    """Report whether a name asks for numbered images that exist already and are not from an interrupted run."""
    return is_numbered(target) and are_done(ImageSequence(str(target)))


def check(source: Source, target: Path, job: Job, *, overwrite: bool, resume: bool) -> None:
    """Raise TargetError or SettingsError if the images cannot be written."""
    kind = _kind(target)
    if _exact(job) and kind.exact is None:
        raise SettingsError(f"`lossless`: {target.suffix[1:]} always loses some of an image; png keeps all of it")
    if not is_numbered(target):
        if resume:
            raise SettingsError(f"{target}: an animated image is written as a whole, so there is nothing to resume")
        check_target(source, target, None, overwrite=overwrite)
        return
    images = ImageSequence(str(target))
    _check_apart(source, images)
    place = images.path(0)
    existing = next(folder for folder in (place.absolute().parent, *place.absolute().parents) if folder.exists())
    check_target(None, existing / place.name, None, overwrite=True)
    check_none(images, overwrite=overwrite, resume=resume)


def _check_apart(source: Source, images: ImageSequence) -> None:
    """Raise TargetError if an image to be written may be one of the source's files, possibly under another name."""
    if sequence := sequence_of(source):
        if images.overlaps(sequence):
            raise TargetError(f"{images}: are the input's own images; name others")
        return
    with os_errors_as(images.pattern, TargetError):
        for path in map(images.path, images.numbers()):
            if problems := path_problems(source, path, overwrite=True):
                raise TargetError(f"{path}: {'; '.join(problems)}")


def predicted(prediction: Prediction, target: Path) -> Prediction:
    """Return a prediction for a video with the disk space replaced by that of images."""
    size = round(prediction.width * prediction.height * _kind(target).bytes_a_pixel)
    disk = None if prediction.frames is None else prediction.frames * size
    return replace(prediction, frame_disk=size, disk=disk, encoders=1)


def write(
    reader: Reader, job: Job, target: Path, progress: Progress, tick: Callable[[], None], *, resume: bool = False
) -> None:
    """Upscale an open source into images without audio. tick: called after every frame. Otherwise as `upres.engine.api.upscale`."""
    shape = after_prefilters(reader.info.shape, job.prefilters)
    upscaled, encoding = resolved(job, shape)
    progress.shape, progress.repairs = shape, reader.repairs
    progress.warnings += [*reader.warnings, *_left_out(reader), *interlacing_warnings(reader, job)]
    size = encoding.width, encoding.height
    if max(size) > _kind(target).longest:
        raise TargetError(
            f"{target}: holds {_kind(target).longest} pixels a side at most, and the result is {size[0]}x{size[1]}"
        )
    chain = Chain(job.models, progress.busy)
    with ExitStack() as closing:
        writer = _writer(reader, job, target, size, upscaled, closing, resume=resume)
        frames = _new(_upscaled(reader, job, chain, progress, writer.complete, closing), writer, progress, job)
        try:
            for frame in frames:
                with progress.busy("encode"):
                    writer.add(frame)
                progress.frames_out += 1
                tick()
            progress.warnings += [*chain.notes, *reader.closing_notes, *writer.finish()]
        except BaseException as error:
            if not isinstance(error, UpresError) or error.transient:
                error.add_note(writer.stop())
            raise


def _upscaled(
    reader: Reader, job: Job, chain: Chain, progress: Progress, complete: int, closing: ExitStack
) -> Iterator[Frame]:
    """Start the stages that read and upscale in separate threads. complete: number of frames that are written already."""
    shape = after_prefilters(reader.info.shape, job.prefilters)
    source = model_frames(reader, job, shape, progress, first=complete if job.stateless else 0)
    read = closing.enter_context(ahead(source, shape, "read", reader.interrupt))

    def stop() -> None:
        read.stop()
        chain.stop()

    upscaled, _ = resolved(job, shape)
    return closing.enter_context(ahead(chain.run(read.results()), upscaled, "infer", stop)).results()


def _new(frames: Iterator[Frame], writer: Writer, progress: Progress, job: Job) -> Iterator[Frame]:
    """Yield frames except those that are written already, which models with memory had to process again."""
    complete = progress.frames_resumed = progress.frames_out = writer.complete
    for number, frame in enumerate(frames, complete if job.stateless else 0):
        if number >= complete:
            yield frame


def _writer(
    reader: Reader,
    job: Job,
    target: Path,
    size: tuple[int, int],
    upscaled: Shape,
    closing: ExitStack,
    *,
    resume: bool,
) -> Writer:
    if is_numbered(target):
        source = sequence_of(reader.source)
        first = source.span()[0] if source else 1
        images, origin = ImageSequence(str(target)), _origin(reader.source, job)
        numbered = SequenceWriter(images, size, first=first, origin=origin, resume=resume, exact=_exact(job))
        closing.callback(numbered.close)
        return numbered
    writer = MovingWriter(target, size, upscaled.time_base, exact=_exact(job))
    closing.callback(writer.close)
    return writer


def _origin(source: Source, job: Job) -> dict[str, Any]:
    """Return the source and settings that numbered images depend on, without those for encoding a video."""
    settings = job.settings()
    del settings["encoder"], settings["container"]
    return {"source": fingerprint(source), **settings, "height": job.encoder.height, "lossless": _exact(job)}


def _left_out(reader: Reader) -> list[str]:
    """Return messages about the items of a source that images cannot hold."""
    notes = ["images hold no sound: it is left out"] if reader.audio else []
    notes += ["images hold no subtitles: they are left out"] if reader.subtitles else []
    if any(item.kind is Kind.ALPHA for item in reader.inventory):
        notes.append("transparent parts, if any, are shown over black: the result has no transparency")
    aspect = reader.info.shape.sample_aspect
    if aspect != 1:
        notes.append(
            f"the source's pixels are {aspect.numerator}:{aspect.denominator}; images are written as if square"
        )
    return notes


def _kind(target: Path) -> Format | Moving:
    suffix = target.suffix.lower()
    return FORMATS[suffix] if is_numbered(target) else MOVING[suffix]


def _exact(job: Job) -> bool:
    return job.encoder.codec == "lossless"
