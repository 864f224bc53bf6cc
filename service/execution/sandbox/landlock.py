"""Landlock: restricts a process to the files under given folders. Linux 5.13 and later.

The constants are from linux/landlock.h. Rights that a kernel does not support are omitted, by its interface version.
"""

import ctypes
import os
import stat
import sys
from collections.abc import Iterable
from pathlib import Path

from .libc import libc

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # the same numbers on every architecture
CREATE_RULESET_VERSION = 1
RULE_PATH_BENEATH = 1

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, REMOVE_DIR, REMOVE_FILE = (1 << bit for bit in range(6))
MAKE_DIR, MAKE_REG = 1 << 7, 1 << 8
REFER, TRUNCATE = 1 << 13, 1 << 14
READ = READ_FILE | READ_DIR
WRITE = READ | WRITE_FILE | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG | REFER | TRUNCATE
FILE = READ_FILE | WRITE_FILE | TRUNCATE  # the rights that a file, rather than a folder, can have
KNOWN = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}  # rights by interface version
TCP = 0b11  # bind and connect, from version 4
SCOPES = 0b11  # abstract sockets and signals of processes outside, from version 6


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


def restrict(*, readable: Iterable[Path] = (), writable: Iterable[Path] = ()) -> bool:
    """Give up access to every file outside these folders, for this thread and its children; return whether that is supported.

    Requires no_new_privs. Open descriptors remain usable.
    """
    if not available():
        return False
    version = _version()
    rights = KNOWN[max(known for known in KNOWN if known <= version)]
    ruleset = _Ruleset(rights, TCP if version >= 4 else 0, SCOPES if version >= 6 else 0)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    descriptor = _syscall(CREATE_RULESET, ctypes.byref(ruleset), size, 0)
    if descriptor < 0:
        return False
    try:
        for folders, allowed in ((readable, READ), (writable, WRITE)):
            for folder in folders:
                _allow(descriptor, folder, allowed & rights)
        return _syscall(RESTRICT_SELF, descriptor, 0) == 0
    finally:
        os.close(descriptor)


def _allow(ruleset: int, folder: Path, rights: int) -> None:
    try:
        parent = os.open(folder, os.O_PATH)
    except (FileNotFoundError, PermissionError):
        return  # the folder cannot be used in any case
    try:
        if not stat.S_ISDIR(os.fstat(parent).st_mode):
            rights &= FILE
        beneath = _PathBeneath(rights, parent)
        if _syscall(ADD_RULE, ruleset, RULE_PATH_BENEATH, ctypes.byref(beneath), 0):
            raise OSError(ctypes.get_errno(), "Landlock rejected the folder", str(folder))
    finally:
        os.close(parent)


def available() -> bool:
    """Return whether this system supports Landlock."""
    return _version() >= 1


def _version() -> int:
    """Return the version of the kernel's Landlock interface; less than 1 if there is none."""
    return _syscall(CREATE_RULESET, None, 0, CREATE_RULESET_VERSION) if sys.platform == "linux" else -1


def _syscall(number: int, *arguments: object) -> int:
    words = (ctypes.c_long(argument) if isinstance(argument, int) else argument for argument in arguments)
    return int(libc().syscall(ctypes.c_long(number), *words))
