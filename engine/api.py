"""The two calls of the Python interface: a file to a file, and a source to fragments as they are made."""

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import av

from upres.engine.core.errors import LogError, SettingsError, SourceError, TargetError, os_errors_as
from upres.engine.core.text import counted
from upres.engine.decode.reader import Reader
from upres.engine.decode.source import Source, kind_of
from upres.engine.encode import join
from upres.engine.models import registry
from upres.engine.pipeline.run import Job, Progress, run
from upres.engine.segments.folder import FolderLog
from upres.engine.segments.model import Fragment, Track

DEFAULT_MODEL = "RealESRGAN_Vid_x4"
FINGERPRINT_BYTES = 1 << 20


class Writable(Protocol):
    """An open file, or anything that takes bytes."""

    def write(self, data: bytes, /) -> object: ...  # noqa: D102


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
) -> Progress:
    """Upscale a source into a file; it appears under its name only when it is whole. Gives back what was done.

    source: an open Reader, which can be used once, is closed at the end. Its cut and tone mapping must be the job's.
    job: models and settings, its container the one the target's name asks for; without it, `model` with the usual settings.
    scale: for a model by name that offers several; its largest by default.
    resume: go on from the log that an interrupted run left beside the target (`TARGET.upres`), byte for byte as if it had
    not been interrupted. tick: called after every frame. A target that is an open file gets the whole result at the end.
    Raises UpresError; then nothing is left behind, unless there is something to resume.
    """
    progress = progress or Progress()
    if not isinstance(target, str | Path):
        return _to_open_file(source, target, job or default_job(model, scale=scale), progress, tick)
    target = Path(target)
    job = job or default_job(model, join.container_for(target), scale=scale)
    origin = source.source if isinstance(source, Reader) else source
    check_target(origin, target, job.container, overwrite=overwrite, resume=resume)
    with _opened(source, job) as reader, _log(origin, target, job, resume=resume, keeps=True) as log:
        _into(reader, target, job, log, progress, tick)
    return progress


def stream(
    source: Source | Reader,
    job: Job | None = None,
    *,
    model: str = DEFAULT_MODEL,
    scale: int | None = None,
    progress: Progress | None = None,
) -> Generator[tuple[Track, Fragment, bytes]]:
    """Yield every fragment of the result as soon as it is made, with its track and its bytes.

    A track's `init` and any suffix of its fragments play. The log lies in a temporary folder that closing this removes.
    model, scale: as for `upscale`.
    """
    job = job or default_job(model, scale=scale)
    with (
        tempfile.TemporaryDirectory(prefix="upres-") as folder,
        _opened(source, job) as reader,
        closing(FolderLog(Path(folder), job.settings())) as log,
        closing(run(reader, job, log, progress or Progress())) as fragments,
    ):
        for fragment in fragments:
            yield log.tracks[fragment.track], fragment, log.read(fragment)


def default_job(model: str, container: str = "mp4", *, scale: int | None = None) -> Job:
    """A model by name with the usual settings.

    Raises ModelError where it is not on this machine, SettingsError where it does not offer this scale.
    """
    return Job((registry.load(model, scale=scale)[0],), container=container)


def _opened(source: Source | Reader, job: Job) -> Reader:
    if not isinstance(source, Reader):
        return Reader(source, cut=job.cut, tonemap=job.tonemap)
    if (source.cut, source.tonemap) != (job.cut, job.tonemap):
        raise SettingsError("the open reader has another cut or tone mapping than the job; open it with the job's")
    return source


def _to_open_file(
    source: Source | Reader, target: Writable, job: Job, progress: Progress, tick: Callable[[], None]
) -> Progress:
    """Join into a temporary file, for an index needs a place to be written back to; then copy it out."""
    suffix = next(suffix for suffix, container in join.CONTAINERS.items() if container == job.container)
    origin = source.source if isinstance(source, Reader) else source
    with tempfile.TemporaryDirectory(prefix="upres-") as folder:
        whole = Path(folder) / f"out{suffix}"
        with _opened(source, job) as reader, _log(origin, whole, job, resume=False, keeps=False) as log:
            _into(reader, whole, job, log, progress, tick)
        try:
            with whole.open("rb") as file:
                shutil.copyfileobj(file, target)
        except OSError as error:
            raise TargetError(f"the result cannot be written out ({error.strerror or error})") from error
    return progress


def _into(reader: Reader, target: Path, job: Job, log: FolderLog, progress: Progress, tick: Callable[[], None]) -> None:
    with closing(run(reader, job, log, progress, tick)) as fragments:
        for _ in fragments:
            pass
    join.join(log, target, job.container)


def log_folder(target: Path) -> Path:
    """Where the log of an upscale into this file lies until it is joined."""
    return target.with_name(f"{target.name}.upres")


def check_target(source: Source | None, target: Path, container: str, *, overwrite: bool, resume: bool = False) -> None:
    """TargetError that names everything that stands in the way of writing a file. source: which it must not be."""
    with os_errors_as(target, TargetError):
        for place in (target, log_folder(target), join.part_of(target)):
            with suppress(FileNotFoundError, NotADirectoryError):
                place.lstat()
        problems = _problems(source, target, container, overwrite=overwrite, resume=resume)
    if problems:
        raise TargetError(f"{target}: {'; '.join(problems)}")


def _problems(source: Source | None, target: Path, container: str, *, overwrite: bool, resume: bool) -> list[str]:
    problems = []
    if join.container_for(target) != container:
        problems.append(f"its name asks for {join.container_for(target)}, the settings for {container}")
    if target.is_dir():
        problems.append("is a folder")
    elif target.exists() and isinstance(source, str | Path) and Path(source).exists() and target.samefile(source):
        problems.append("is the input itself; name another output")
    elif target.exists() and not overwrite:
        done = resume and not log_folder(target).exists()
        problems.append(
            "is finished: there is nothing to resume" if done else "exists already; --overwrite replaces it"
        )
    if not target.parent.is_dir():
        problems.append(f"there is no folder {target.parent}")
    else:
        try:
            tempfile.TemporaryFile(dir=target.parent).close()
        except OSError as error:
            problems.append(f"its folder cannot be written to ({error.strerror})")
    kept = log_folder(target)
    if kept.exists() and not (resume or overwrite) and (segments := FolderLog.segments(kept)):
        problems.append(
            f"an interrupted run has left {counted(segments, 'segment')} in {kept}; "
            "--resume goes on, --overwrite begins anew"
        )
    return problems


@contextmanager
def _log(source: Source, target: Path, job: Job, *, resume: bool, keeps: bool) -> Iterator[FolderLog]:
    """The log beside the target. After an error it stays only if it holds a segment to resume from, and keeps says so."""
    folder = log_folder(target)
    header = {"source": fingerprint(source), "build": _build(), **job.settings()}
    if resume and header["source"] is None:
        raise LogError("a stream cannot be resumed: it is gone once it has been read; resume needs a file")
    with os_errors_as(folder, TargetError):
        if folder.exists() and not resume:
            FolderLog.discard(folder)
        begun = folder.exists()
    try:
        with os_errors_as(folder, TargetError):
            log = FolderLog(folder, header)
    except BaseException:
        if not begun:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    try:
        yield log
    except BaseException as error:
        segments = sum(fragment.last for fragment in log.fragments("video"))
        keeps = keeps and segments > 0 and header["source"] is not None
        if not keeps:
            shutil.rmtree(folder, ignore_errors=True)
        if keeps or isinstance(error, KeyboardInterrupt | TargetError):
            error.add_note(_kept(folder, segments) if keeps else _nothing_kept(segments, job))
        raise
    else:
        with os_errors_as(folder, TargetError):
            shutil.rmtree(folder)  # while it is still claimed, so that no other run can begin in it
    finally:
        log.close()


def _kept(folder: Path, segments: int) -> str:
    return f"kept: {counted(segments, 'segment')} in {folder}; the same command with --resume goes on from there"


def _nothing_kept(segments: int, job: Job) -> str:
    if segments:
        return "nothing is kept: only what goes from a file into a file can be resumed"
    seconds = job.encoder.segment_seconds
    return f"nothing is kept: the first segment ({seconds:g} seconds of video or more) was not whole yet"


def fingerprint(source: Source) -> dict[str, Any] | None:
    """What identifies a file cheaply: its size, and the sha256 of its first and last MiB. None for anything else."""
    if not isinstance(source, str | Path) or kind_of(source) != "file":
        return None
    path = Path(source)
    with os_errors_as(path, SourceError), path.open("rb") as file:
        size = path.stat().st_size
        head = file.read(FINGERPRINT_BYTES)
        file.seek(max(0, size - FINGERPRINT_BYTES))
        tail = file.read(FINGERPRINT_BYTES)
    return {"bytes": size, "sha256_ends": hashlib.sha256(head + tail).hexdigest()}


def _build() -> str:
    libraries = av.library_versions
    return f"av {av.__version__}, libavcodec {'.'.join(map(str, libraries['libavcodec']))}"
