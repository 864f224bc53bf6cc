"""Seccomp: permanently drops system calls of a process. Linux on x86-64 and ARM64.

All ways to reach another process or machine are dropped: sockets (open ones remain usable), executing programs, child processes,
signals, tracing, namespaces. Threads, memory and files remain available. A process that pulls a stream keeps TCP sockets, but its
supervisor (`one_peer`) makes every connection: the connect(2) call itself is never executed.
"""

import ctypes
import errno
import os
import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from .libc import libc

PR_SET_SECCOMP = 22  # linux/prctl.h
SECCOMP_MODE_FILTER = 2
SET_MODE_FILTER, NEW_LISTENER = 1, 1 << 3  # operation and flag of seccomp(2), since Linux 5.0
ALLOW, ERRNO, ASK = 0x7FFF0000, 0x00050000, 0x7FC00000  # linux/seccomp.h: return values of a filter
LOAD, AND, JUMP_EQUAL, JUMP_FROM, JUMP_SET, RETURN = 0x20, 0x54, 0x15, 0x35, 0x45, 0x06  # linux/bpf_common.h
NUMBER, ARCHITECTURE, FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data
INTERNET = (2, 10)  # AF_INET, AF_INET6
STREAM, KIND = 1, 0xF  # SOCK_STREAM, and the mask of a socket's type without its flags
TCP = (0, 6)  # the default protocol and TCP; SCTP has other ways to connect
FAST_OPEN = 0x20000000  # MSG_FASTOPEN, with which sending opens a connection
CLONE_THREAD = 0x00010000
CLONE3 = 435
# pidfd_send_signal, io_uring_setup, pidfd_open, pidfd_getfd: the same on all architectures
ALSO_DENIED = (424, 425, 434, 438)
X32 = 0x40000000  # first call number of the x32 ABI on x86-64; ARM64 has no numbers this high

Instruction = tuple[int, int, int, int]
DENY: Instruction = (RETURN, 0, 0, ERRNO | errno.EACCES)
ALLOWED: Instruction = (RETURN, 0, 0, ALLOW)


@dataclass(frozen=True, slots=True)
class _Calls:
    """System call numbers of an architecture: those that are denied, and those that are allowed for some arguments only.

    sending: sendto, sendmsg and sendmmsg, each with the index of its flags argument.
    """

    audit: int
    denied: tuple[int, ...]
    socket: int
    socketpair: int
    connect: int
    sending: tuple[tuple[int, int], ...]
    seccomp: int
    clone: int
    tgkill: int
    prlimit: int


ARCHITECTURES = {
    # bind listen | fork vfork execve execveat | kill tkill rt_sigqueueinfo rt_tgsigqueueinfo | ptrace
    # process_vm_readv process_vm_writev | mount unshare setns bpf perf_event_open userfaultfd add_key keyctl
    "x86_64": _Calls(
        0xC000003E,
        (49, 50, 57, 58, 59, 322, 62, 200, 129, 297, 101, 310, 311, 165, 272, 308, 321, 298, 323, 248, 250),
        socket=41,
        socketpair=53,
        connect=42,
        sending=((44, 3), (46, 2), (307, 3)),
        seccomp=317,
        clone=56,
        tgkill=234,
        prlimit=302,
    ),
    "aarch64": _Calls(
        0xC00000B7,
        (200, 201, 221, 281, 129, 130, 138, 240, 117, 270, 271, 40, 97, 268, 280, 241, 282, 217, 219),
        socket=198,
        socketpair=199,
        connect=203,
        sending=((206, 3), (211, 2), (269, 3)),
        seccomp=277,
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
    """Drop the system calls for this thread and its children; return whether that is supported. Requires no_new_privs."""
    calls = _calls()
    if calls is None:
        return False
    program = _program([*_common(calls), *_denied((calls.socket, calls.connect)), ALLOWED])
    return bool(libc().prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0) == 0)


def restrict_to_asking() -> int | None:
    """Drop the system calls, but keep TCP sockets, whose connections a supervisor makes.

    Returns the descriptor on which a supervisor receives the requests; this process must close it, or it could answer them itself.
    Returns None, with nothing dropped, if the system does not support that.
    """
    calls = _calls()
    if calls is None:
        return None
    program = _program([*_common(calls), *_tcp(calls), ALLOWED])
    descriptor: int = libc().syscall(ctypes.c_long(calls.seccomp), SET_MODE_FILTER, NEW_LISTENER, ctypes.byref(program))
    return descriptor if descriptor >= 0 else None


def _calls() -> _Calls | None:
    return ARCHITECTURES.get(platform.machine()) if sys.platform == "linux" else None


def _program(instructions: list[Instruction]) -> _Program:
    filters = (_Filter * len(instructions))(*(_Filter(*instruction) for instruction in instructions))
    return _Program(len(instructions), filters)


def _common(calls: _Calls) -> Iterator[Instruction]:
    """Yield the instructions of the BPF filter except those for sockets: code, jump if true, jump if false, operand."""
    yield LOAD, 0, 0, ARCHITECTURE
    yield JUMP_EQUAL, 1, 0, calls.audit
    yield DENY
    yield LOAD, 0, 0, NUMBER
    yield JUMP_FROM, 0, 1, X32
    yield DENY
    yield from _denied(calls.denied + ALSO_DENIED)
    yield JUMP_EQUAL, 0, 1, CLONE3
    # Its flags are in memory, which filters cannot read; libc falls back to clone.
    yield (RETURN, 0, 0, ERRNO | errno.ENOSYS)
    # A datagram socket of a pair could send to any address.
    yield from _only(calls.socketpair, JUMP_EQUAL, STREAM, place=1, bits=KIND)
    yield from _only(calls.clone, JUMP_SET, CLONE_THREAD)
    yield from _only(calls.tgkill, JUMP_EQUAL, os.getpid())
    yield from _only(calls.prlimit, JUMP_EQUAL, 0)


def _denied(numbers: tuple[int, ...]) -> Iterator[Instruction]:
    for number in numbers:
        yield JUMP_EQUAL, 0, 1, number
        yield DENY


def _tcp(calls: _Calls) -> Iterator[Instruction]:
    """Yield instructions that allow TCP sockets, defer their connections, and deny sends that open a connection."""
    yield JUMP_EQUAL, 0, 1, calls.connect
    yield RETURN, 0, 0, ASK
    for number, place in calls.sending:
        yield JUMP_EQUAL, 0, 4, number
        yield LOAD, 0, 0, FIRST_ARGUMENT + 8 * place
        yield JUMP_SET, 0, 1, FAST_OPEN
        yield DENY
        yield ALLOWED
    yield JUMP_EQUAL, 0, 12, calls.socket
    yield LOAD, 0, 0, FIRST_ARGUMENT
    yield JUMP_EQUAL, 2, 0, INTERNET[0]
    yield JUMP_EQUAL, 1, 0, INTERNET[1]
    yield DENY
    yield LOAD, 0, 0, FIRST_ARGUMENT + 8
    yield AND, 0, 0, KIND
    yield JUMP_EQUAL, 0, 4, STREAM
    yield LOAD, 0, 0, FIRST_ARGUMENT + 16
    yield JUMP_EQUAL, 1, 0, TCP[0]
    yield JUMP_EQUAL, 0, 1, TCP[1]
    yield ALLOWED
    yield DENY


def _only(number: int, test: int, value: int, *, place: int = 0, bits: int = 0xFFFFFFFF) -> Iterator[Instruction]:
    """Yield instructions that allow a call if the masked argument at this index passes a test, and otherwise deny it."""
    yield JUMP_EQUAL, 0, 5, number
    yield LOAD, 0, 0, FIRST_ARGUMENT + 8 * place
    yield AND, 0, 0, bits
    yield test, 0, 1, value
    yield ALLOWED
    yield DENY
