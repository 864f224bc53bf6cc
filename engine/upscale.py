"""The two calls of the Python interface: a file to a file, and a source to fragments as they are made."""

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import av

from . import join
from .errors import LogError, TargetError
from .log import FolderLog, Fragment, Track
from .pipeline import Job, Progress, run
from .reader import Reader
from .source import Source

FINGERPRINT_BYTES = 1 << 20


def upscale(
    source: Source,
    target: str | Path,
    job: Job,
    *,
    resume: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
    tick: Callable[[], None] = lambda: None,
) -> Progress:
    """Upscale a source into a file; it appears under its name only when it is whole. Gives back what was done.

    job: models and settings; its container is the one the target's name asks for. resume: go on from the log that an
    interrupted run left beside the target (`TARGET.upres`), byte for byte as if it had not been interrupted.
    tick: called after every frame. Raises UpresError; then nothing is left behind, unless there is something to resume.
    """
    target = Path(target)
    progress = progress or Progress()
    check_target(target, job.container, overwrite=overwrite)
    with Reader(source, cut=job.cut, tonemap=job.tonemap) as reader, _log(source, target, job, resume) as log:
        with closing(run(reader, job, log, progress, tick)) as fragments:
            for _ in fragments:
                pass
        join.join(log, target, job.container)
    return progress


def stream(source: Source, job: Job, *, progress: Progress | None = None) -> Generator[tuple[Track, Fragment, bytes]]:
    """Yield every fragment of the result as soon as it is made, with its track and its bytes.

    A track's `init` and any suffix of its fragments play. The log lies in a temporary folder that closing this removes.
    """
    with (
        tempfile.TemporaryDirectory(prefix="upres-") as folder,
        Reader(source, cut=job.cut, tonemap=job.tonemap) as reader,
        closing(FolderLog(Path(folder), job.settings())) as log,
        closing(run(reader, job, log, progress or Progress())) as fragments,
    ):
        for fragment in fragments:
            yield log.tracks[fragment.track], fragment, log.read(fragment)


def log_folder(target: Path) -> Path:
    """Where the log of an upscale into this file lies until it is joined."""
    return target.with_name(f"{target.name}.upres")


def check_target(target: Path, container: str, *, overwrite: bool) -> None:
    """TargetError that names everything that stands in the way of writing a file."""
    problems = []
    if join.container_for(target) != container:
        problems.append(f"its name asks for {join.container_for(target)}, the settings for {container}")
    if target.is_dir():
        problems.append("is a folder")
    elif target.exists() and not overwrite:
        problems.append("exists already; --overwrite replaces it")
    if not target.parent.is_dir():
        problems.append(f"there is no folder {target.parent}")
    else:
        try:
            tempfile.TemporaryFile(dir=target.parent).close()
        except OSError as error:
            problems.append(f"its folder cannot be written to ({error.strerror})")
    if problems:
        raise TargetError(f"{target}: {'; '.join(problems)}")


@contextmanager
def _log(source: Source, target: Path, job: Job, resume: bool) -> Iterator[FolderLog]:
    """The log beside the target. After an error it stays only if it holds a segment to resume from."""
    folder = log_folder(target)
    header = {"source": fingerprint(source), "build": _build(), **job.settings()}
    if resume and header["source"] is None:
        raise LogError("a stream cannot be resumed: it is gone once it has been read; resume needs a file")
    if folder.exists() and not resume:
        FolderLog.discard(folder)
    log = FolderLog(folder, header)
    try:
        yield log
    except BaseException as error:
        segments = len(log.fragments("video"))
        log.close()
        if not segments or header["source"] is None:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            error.add_note(
                f"{segments} segments are kept in {folder}; the same command with --resume goes on from there"
            )
        raise
    log.close()
    shutil.rmtree(folder)


def fingerprint(source: Source) -> dict[str, Any] | None:
    """What identifies a file cheaply: its size, and the sha256 of its first and last MiB. None for anything else."""
    if not isinstance(source, str | Path):
        return None
    path = Path(source)
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(FINGERPRINT_BYTES)
        file.seek(max(0, size - FINGERPRINT_BYTES))
        tail = file.read(FINGERPRINT_BYTES)
    return {"bytes": size, "sha256_ends": hashlib.sha256(head + tail).hexdigest()}


def _build() -> str:
    libraries = av.library_versions
    return f"av {av.__version__}, libavcodec {'.'.join(map(str, libraries['libavcodec']))}"
