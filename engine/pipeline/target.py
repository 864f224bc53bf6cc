"""Checks of an upscale's output file before any work, and the log next to it while it is incomplete."""

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
    """Return the folder that holds the log of an upscale into this file until the file is complete."""
    return target.with_name(f"{target.name}.upres")


def check_target(
    source: Source | None, target: Path, container: str | None, *, overwrite: bool, resume: bool = False
) -> None:
    """Raise a TargetError that lists everything that prevents writing the file. source: must not be the same file.

    container: the one that the file name must match; None if the name was checked already.
    """
    with os_errors_as(target, TargetError):
        for place in (target, log_folder(target), partial_path(target)):
            with suppress(FileNotFoundError, NotADirectoryError):
                place.lstat()
        problems = [
            *([] if container is None else _name_problems(target, container)),
            *path_problems(source, target, overwrite=overwrite, resume=resume),
            *folder_problems(target.parent),
            *_log_problems(target, overwrite=overwrite, resume=resume),
        ]
    if problems:
        raise TargetError(f"{target}: {'; '.join(problems)}")


def _name_problems(target: Path, container: str) -> list[str]:
    named = container_for(target)
    return [] if named == container else [f"its name requires {named}, the settings require {container}"]


def path_problems(source: Source | None, target: Path, *, overwrite: bool, resume: bool = False) -> list[str]:
    """List what at the target's path prevents writing it; OSErrors propagate. source: must not be the same file."""
    if target.is_dir():
        return ["is a folder"]
    if not target.exists():
        return []
    if _is_source(source, target):
        return ["is the input itself; name another output"]
    if overwrite:
        return []
    if resume and not log_folder(target).exists():
        return ["is finished: there is nothing to resume"]
    return ["exists already; `overwrite` replaces it"]


def _is_source(source: Source | None, target: Path) -> bool:
    """Report whether a file is the source, possibly under another name or as redirected standard input."""
    if isinstance(source, str | Path):
        return Path(source).exists() and target.samefile(source)
    fileno = getattr(source, "fileno", None)
    try:
        return fileno is not None and os.path.samestat(os.fstat(fileno()), target.stat())
    except OSError:  # in-memory files have no file descriptor
        return False


def folder_problems(folder: Path) -> list[str]:
    """List what prevents creating a file in a folder."""
    if not folder.is_dir():
        return [f"there is no folder {folder}"]
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        return [f"its folder cannot be written to ({reason(error)})"]
    return []


def _log_problems(target: Path, *, overwrite: bool, resume: bool) -> list[str]:
    folder = log_folder(target)
    if overwrite or resume or not folder.exists() or not (segments := FolderLog.segments(folder)):
        return []
    remains = f"an interrupted run has left {counted(segments, 'segment')} in {folder}"
    return [f"{remains}; `resume` continues it, `overwrite` starts again"]
