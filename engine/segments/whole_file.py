"""Files that appear under their names only once they are whole and on disk."""

import os
from pathlib import Path


def partial_path(target: Path) -> Path:
    """Return where a file is written until it is complete: absolute, or libavformat took what is before a colon for a protocol."""
    return target.absolute().with_name(f".{target.name}.{os.getpid()}.part")


def put_in_place(part: Path, target: Path) -> None:
    """Put a complete file under its name, where it survives a power cut; raises OSError."""
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.replace(target)
    sync_folder(target.parent)


def sync_folder(folder: Path) -> None:
    """Make files created or renamed in a folder survive a power cut, where the system can."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
