"""The log next to a target file: kept after an interruption if the same command can resume it, removed otherwise."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import Any

import av

from upres.engine.core.errors import LogError, LogLockedError, SourceError, TargetError, UpresError, os_errors_as
from upres.engine.core.text import counted
from upres.engine.decode.numbered import ImageSequence
from upres.engine.decode.openers.web import WebFile
from upres.engine.decode.source import Source, kind_of, sequence_of
from upres.engine.segments.folder import FolderLog

from .options import Job
from .target import log_folder

FINGERPRINT_BYTES = 1 << 20


@contextmanager
def log_beside(source: Source, target: Path, job: Job, *, resume: bool) -> Iterator[FolderLog]:
    """Open the log next to a target, resuming an existing one if `resume` is set, and remove it once the target is complete.

    After an error, the log is kept if it holds a segment and the same command may succeed later. A note on the error reports which.
    """
    header = {"source": fingerprint(source), "build": _build(), **job.settings()}
    if resume and header["source"] is None:
        raise LogError("a stream cannot be resumed: it is gone once it has been read; resume needs a file")
    with _locked_log(log_folder(target), header, resume=resume) as log:
        try:
            yield log
        except BaseException as error:
            if not (resume and isinstance(error, LogError)):  # its message says what to do with that log
                _keep_or_remove(log, job, error, can_resume=header["source"] is not None)
            raise
        with os_errors_as(log.folder, TargetError):
            shutil.rmtree(log.folder)  # while it is still locked, so that no other run can start in it


def resumed_models(target: Path) -> tuple[str, ...]:
    """Read which models the interrupted run to this target used, and what they ran on. Return () if there is no readable log.

    target: a file, or a folder that receives several files, all made by one command with the same models.
    """
    logs = sorted(target.glob("*.upres")) if target.is_dir() else [log_folder(target)]
    with suppress(UpresError, OSError):
        for models in (FolderLog.read_header(log).get("models") for log in logs):
            if isinstance(models, list):
                return tuple(map(str, models))
    return ()


@contextmanager
def log_within(folder: Path, job: Job) -> Iterator[FolderLog]:
    """Open a log in a folder that the caller removes; it cannot be resumed."""
    log = FolderLog(folder, job.settings())
    try:
        yield log
    except BaseException as error:
        if _may_succeed_later(error):
            error.add_note("nothing is kept: only a run from a file to a file can be resumed")
        raise
    finally:
        log.close()


@contextmanager
def _locked_log(folder: Path, header: dict[str, Any], *, resume: bool) -> Iterator[FolderLog]:
    with os_errors_as(folder, TargetError):
        if folder.exists() and not resume:
            FolderLog.discard(folder)
        existed = folder.exists()
    try:
        with os_errors_as(folder, TargetError):
            log = FolderLog(folder, header)
    except BaseException as error:
        if not (existed or isinstance(error, LogLockedError)):  # another run may have created it in the meantime
            shutil.rmtree(folder, ignore_errors=True)
        raise
    try:
        yield log
    finally:
        log.close()


def _keep_or_remove(log: FolderLog, job: Job, error: BaseException, *, can_resume: bool) -> None:
    """Keep or remove the log and add a note on which to the error. Do not advise resuming if that would fail the same way."""
    segments = sum(fragment.last for fragment in log.fragments("video"))
    may_succeed = _may_succeed_later(error)
    if may_succeed and can_resume and segments:
        error.add_note(
            f"kept: {counted(segments, 'segment')} in {log.folder}; the same command with `resume` continues from there"
        )
        return
    shutil.rmtree(log.folder, ignore_errors=True)
    if may_succeed and not can_resume:
        error.add_note("nothing is kept: only a run from a file to a file can be resumed")
    elif may_succeed:
        seconds = job.encoder.segment_seconds
        error.add_note(
            f"nothing is kept: the first segment ({counted(seconds, 'second')} of video or more) was not complete yet"
        )


def _may_succeed_later(error: BaseException) -> bool:
    """Report whether the same command may succeed later. Errors that are not UpresErrors may have any cause, so they may."""
    return error.transient if isinstance(error, UpresError) else True


def fingerprint(source: Source) -> dict[str, Any] | None:
    """Identify a local or web file by its size and the sha256 of its first and last MiB. Return None for other sources.

    For numbered images: their count, total size, and the fingerprints of the first and the last.
    """
    if images := sequence_of(source):
        return _images(images)
    if not isinstance(source, str | Path) or (kind := kind_of(source)) not in ("file", "http", "https"):
        return None
    with (
        os_errors_as(source, SourceError),
        Path(source).open("rb") if kind == "file" else BufferedReader(WebFile(str(source))) as file,
    ):
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        head = file.read(FINGERPRINT_BYTES)
        file.seek(max(0, size - FINGERPRINT_BYTES))
        tail = file.read(FINGERPRINT_BYTES)
    return {"bytes": size, "sha256_ends": hashlib.sha256(head + tail).hexdigest()}


def _images(images: ImageSequence) -> dict[str, Any]:
    paths = [images.path(number) for number in images.span()]
    with os_errors_as(images.pattern, SourceError):
        ends = [fingerprint(path) for path in (paths[0], paths[-1])]
        return {
            "images": len(paths),
            "bytes": sum(path.stat().st_size for path in paths),
            "ends": ends,
            "rate": str(images.rate),
        }


def _build() -> str:
    libraries = av.library_versions
    return f"av {av.__version__}, libavcodec {'.'.join(map(str, libraries['libavcodec']))}"
