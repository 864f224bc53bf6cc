"""The file that an upscale goes into, checked before any work, and the log beside it until it is joined."""

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from upres.engine.core.errors import TargetError, os_errors_as, reason
from upres.engine.core.text import counted
from upres.engine.decode.source import Source
from upres.engine.encode.join.file import container_for
from upres.engine.segments.folder import FolderLog
from upres.engine.segments.whole_file import partial_path


def log_folder(target: Path) -> Path:
    """Name the folder that holds the log of an upscale into this file until it is joined."""
    return target.with_name(f"{target.name}.upres")


def check_target(
    source: Source | None, target: Path, container: str | None, *, overwrite: bool, resume: bool = False
) -> None:
    """Raise TargetError that names everything that stands in the way of writing a file. source: what it must not be.

    container: the one that its name must ask for; None where the name was checked already.
    """
    with os_errors_as(target, TargetError):
        for place in (target, log_folder(target), partial_path(target)):
            with suppress(FileNotFoundError, NotADirectoryError):
                place.lstat()
        problems = [
            *([] if container is None else _wrong_name(target, container)),
            *in_the_way(source, target, overwrite=overwrite, resume=resume),
            *unwritable(target.parent),
            *_unfinished(target, overwrite=overwrite, resume=resume),
        ]
    if problems:
        raise TargetError(f"{target}: {'; '.join(problems)}")


def _wrong_name(target: Path, container: str) -> list[str]:
    named = container_for(target)
    return [] if named == container else [f"its name asks for {named}, the settings for {container}"]


def in_the_way(source: Source | None, target: Path, *, overwrite: bool, resume: bool = False) -> list[str]:
    """Name what stands where a file is to be written; the system's errors as they come. source: what it must not be."""
    if target.is_dir():
        return ["is a folder"]
    if not target.exists():
        return []
    if _is(source, target):
        return ["is the input itself; name another output"]
    if overwrite:
        return []
    if resume and not log_folder(target).exists():
        return ["is finished: there is nothing to resume"]
    return ["exists already; `overwrite` replaces it"]


def _is(source: Source | None, target: Path) -> bool:
    """Whether a file is the source, by whichever name, or standard input that was redirected from it."""
    if isinstance(source, str | Path):
        return Path(source).exists() and target.samefile(source)
    fileno = getattr(source, "fileno", None)
    try:
        return fileno is not None and os.path.samestat(os.fstat(fileno()), target.stat())
    except OSError:  # of what is in memory and so has no number
        return False


def unwritable(folder: Path) -> list[str]:
    """Say why no file can be made in a folder, if so."""
    if not folder.is_dir():
        return [f"there is no folder {folder}"]
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        return [f"its folder cannot be written to ({reason(error)})"]
    return []


def _unfinished(target: Path, *, overwrite: bool, resume: bool) -> list[str]:
    folder = log_folder(target)
    if overwrite or resume or not folder.exists() or not (segments := FolderLog.segments(folder)):
        return []
    kept = f"an interrupted run has left {counted(segments, 'segment')} in {folder}"
    return [f"{kept}; `resume` continues it, `overwrite` starts again"]
