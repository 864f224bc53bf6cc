"""Seccomp: a process gives up system calls for good. Linux on x86-64 and ARM64.

What is given up is every way to reach another process or machine: sockets (open ones stay open), programs, children, signals,
tracing, namespaces. Threads, memory and files are left.
"""

import ctypes
import errno
import os
import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass

PR_SET_SECCOMP = 22  # linux/prctl.h
SECCOMP_MODE_FILTER = 2
ALLOW, ERRNO = 0x7FFF0000, 0x00050000  # linux/seccomp.h: what a filter returns
LOAD, JUMP_EQUAL, JUMP_FROM, JUMP_SET, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # linux/bpf_common.h
NUMBER, ARCHITECTURE, FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data
CLONE_THREAD = 0x00010000
CLONE3 = 435
ALSO_DENIED = (424, 425, 434, 438)  # pidfd_send_signal, io_uring_setup, pidfd_open, pidfd_getfd: the same everywhere
X32 = 0x40000000  # numbers of x86-64's other calling convention begin here; ARM64 has none so high

Instruction = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class _Calls:
    """An architecture's numbers: of calls that are denied, and of those that are allowed for one first argument only."""

    audit: int
    denied: tuple[int, ...]
    clone: int
    tgkill: int
    prlimit: int


ARCHITECTURES = {
    # socket connect bind listen | fork vfork execve execveat | kill tkill rt_sigqueueinfo rt_tgsigqueueinfo | ptrace
    # process_vm_readv process_vm_writev | mount unshare setns bpf perf_event_open userfaultfd add_key keyctl
    "x86_64": _Calls(
        0xC000003E,
        (41, 42, 49, 50, 57, 58, 59, 322, 62, 200, 129, 297, 101, 310, 311, 165, 272, 308, 321, 298, 323, 248, 250),
        clone=56,
        tgkill=234,
        prlimit=302,
    ),
    "aarch64": _Calls(
        0xC00000B7,
        (198, 203, 200, 201, 221, 281, 129, 130, 138, 240, 117, 270, 271, 40, 97, 268, 280, 241, 282, 217, 219),
        clone=220,
        tgkill=131,
        prlimit=261,
    ),
}


class _Filter(ctypes.Structure):
    _fields_ = (("code", ctypes.c_ushort), ("yes", ctypes.c_ubyte), ("no", ctypes.c_ubyte), ("k", ctypes.c_uint32))


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filters", ctypes.POINTER(_Filter)))


def restrict() -> bool:
    """Give up the calls, in this thread and what it starts; whether the system can do that. Needs no_new_privs."""
    calls = ARCHITECTURES.get(platform.machine())
    if sys.platform != "linux" or calls is None:
        return False
    instructions = list(_instructions(calls))
    filters = (_Filter * len(instructions))(*(_Filter(*instruction) for instruction in instructions))
    program = _Program(len(instructions), filters)
    return bool(ctypes.CDLL(None).prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0) == 0)


def _instructions(calls: _Calls) -> Iterator[Instruction]:
    """Yield the filter's BPF program: code, jump if true, jump if false, operand."""
    deny = (RETURN, 0, 0, ERRNO | errno.EACCES)
    yield LOAD, 0, 0, ARCHITECTURE
    yield JUMP_EQUAL, 1, 0, calls.audit
    yield deny
    yield LOAD, 0, 0, NUMBER
    yield JUMP_FROM, 0, 1, X32
    yield deny
    for number in calls.denied + ALSO_DENIED:
        yield JUMP_EQUAL, 0, 1, number
        yield deny
    yield JUMP_EQUAL, 0, 1, CLONE3
    yield (
        RETURN,
        0,
        0,
        ERRNO | errno.ENOSYS,
    )  # its flags lie in memory, which a filter cannot read; libc takes clone then
    yield from _only(calls.clone, JUMP_SET, CLONE_THREAD)
    yield from _only(calls.tgkill, JUMP_EQUAL, os.getpid())
    yield from _only(calls.prlimit, JUMP_EQUAL, 0)
    yield RETURN, 0, 0, ALLOW


def _only(number: int, test: int, value: int) -> Iterator[Instruction]:
    """Yield what allows a call where its first argument passes a test, and denies it elsewhere."""
    yield JUMP_EQUAL, 0, 4, number
    yield LOAD, 0, 0, FIRST_ARGUMENT
    yield test, 0, 1, value
    yield RETURN, 0, 0, ALLOW
    yield RETURN, 0, 0, ERRNO | errno.EACCES
