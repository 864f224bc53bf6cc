"""Files that appear under their final name only once they are complete and on disk."""

import os
from pathlib import Path


def partial_path(target: Path) -> Path:
    """Return the path at which a file is written until it is complete.

    The path is absolute, because libavformat would take the part of a relative one before a colon for a protocol.
    """
    return target.absolute().with_name(f".{target.name}.{os.getpid()}.part")


def put_in_place(part: Path, target: Path) -> None:
    """Move a complete file to its final name and flush it to disk, so that it survives a power failure. Raises OSError."""
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.replace(target)
    sync_folder(target.parent)


def sync_folder(folder: Path) -> None:
    """Flush a folder to disk, so that files created or renamed in it survive a power failure. Does nothing on other than POSIX."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
