"""All privileges that a process drops before it reads untrusted media."""

import sys
import sysconfig
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import upres.engine
import upres.service

from . import landlock, seccomp
from .libc import libc
from .limits import Bounds, be_killed_first, bound

PR_SET_NO_NEW_PRIVS = 38  # linux/prctl.h
CLONE_NEWUSER = 0x10000000  # linux/sched.h
CLONE_NEWNET = 0x40000000
LIBRARIES = ("/usr/lib", "/usr/local/lib", "/lib", "/lib64", "/usr/share/zoneinfo", "/dev/null", "/dev/urandom")


@dataclass(frozen=True, slots=True)
class Confinement:
    """Whether a process was cut off from the network, and from files other than its own; False if that is not supported."""

    network: bool
    files: bool


def confine(bounds: Bounds, *, writable: Iterable[Path] = ()) -> Confinement:
    """Limit this single-threaded process, and cut it off from network and files; open descriptors remain usable.

    writable: folders that stay writable. Code and libraries stay readable, because some are loaded late.
    """
    be_killed_first()
    bound(bounds)
    if sys.platform != "linux":
        return Confinement(network=False, files=False)
    libc().prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    files = landlock.restrict(readable=code_folders(), writable=writable)
    return Confinement(network=seccomp.restrict() or _leave_network(), files=files)


def confine_to_peer(bounds: Bounds) -> int | None:
    """Confine as `confine` does, but keep access to one address, to which a supervisor connects (`one_peer`), and no folder.

    Returns the listener descriptor, as `seccomp.restrict_to_asking` does; None if the system does not support that, in which case
    neither network nor files are given up.
    """
    be_killed_first()
    bound(bounds)
    if sys.platform != "linux" or not landlock.available():
        return None
    libc().prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    listener = seccomp.restrict_to_asking()
    if listener is not None:
        landlock.restrict(readable=code_folders())
    return listener


def _leave_network() -> bool:
    """Move this process into a new network namespace, which has no connection to the outside."""
    return any(libc().unshare(flags) == 0 for flags in (CLONE_NEWUSER | CLONE_NEWNET, CLONE_NEWNET))


@cache
def code_folders() -> frozenset[Path]:
    """Return the folders of Python, its packages and their libraries. Called once before children are forked, to fill the cache."""
    packages = [folder for folder in sys.path if Path(folder).name in ("site-packages", "dist-packages")]
    own_code = (*upres.engine.__path__, *upres.service.__path__)
    return frozenset(map(Path, (*sysconfig.get_paths().values(), sys.prefix, *packages, *own_code, *LIBRARIES)))
