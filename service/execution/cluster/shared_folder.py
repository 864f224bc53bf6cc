"""Check that a machine shares the server's job folder: the same path, content and locks."""

import os
import socket
import uuid
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

PREFIX = ".server-"
REMEDY = "mount one shared folder, with locks (as NFS 4 has), at the same path on all machines, and set UPRES_STATE to one in it"


@dataclass(frozen=True, slots=True)
class Mark:
    """A file that a server has written to its job folder and holds the lock of. text: the file's content.

    term: of the server's lease, if several servers share the folder. private: no other server continues what is in the folder.
    """

    path: str
    text: str
    term: int = 0
    private: bool = False


class Marked:
    """The mark of this server, which exists until `remove`."""

    def __init__(self, folder: Path, term: int = 0, *, private: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_stale(folder)
        path = folder.absolute() / f"{PREFIX}{uuid.uuid4().hex}"
        self._lock = FileLock(_lock_of(path), timeout=0, thread_local=False)
        self._lock.acquire()
        path.write_text(text := uuid.uuid4().hex)
        self.mark = Mark(str(path), text, term, private)

    def remove(self) -> None:
        """Remove the mark."""
        _remove(Path(self.mark.path))
        self._lock.release()


def problem(mark: Mark) -> str | None:
    """Return why this machine cannot work in the marked folder, with the remedy; None if it can."""
    path = Path(mark.path)
    here = f"on {socket.gethostname()}, {path.parent}"
    try:
        if path.read_text() != mark.text:
            return f"{here} is another folder than the server's: {REMEDY}"
        own = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
        own.touch()
        own.unlink()
    except FileNotFoundError:
        return f"{here} is not the server's: {REMEDY}"
    except OSError as error:
        return f"{here} cannot be used ({error.strerror}): let user {os.getuid()} read and write there"
    try:
        with FileLock(_lock_of(path), timeout=0):
            return f"{here} has locks that other machines do not see: {REMEDY}"
    except Timeout:
        return None
    except (OSError, NotImplementedError) as error:
        return f"{here} has no locks ({error}): {REMEDY}"


def is_held(mark: Mark) -> bool:
    """Report whether the server that wrote a mark still runs; True if that is unknown, for example if the folder is not mounted."""
    path = Path(mark.path)
    try:
        if not path.exists():
            return True
        with FileLock(_lock_of(path), timeout=0):
            return False
    except (Timeout, OSError, NotImplementedError):
        return True


def _lock_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.lock")


def _remove_stale(folder: Path) -> None:
    """Remove the marks of servers that were killed."""
    for lock in folder.glob(f"{PREFIX}*.lock"):
        try:
            with FileLock(lock, timeout=0):
                _remove(lock.with_suffix(""))
        except Timeout:
            continue  # its server is alive


def _remove(path: Path) -> None:
    for each in (path, _lock_of(path)):
        each.unlink(missing_ok=True)
