"""Connections for a process that cannot open any itself: whatever address it requests, it is connected to the one permitted.

The process runs under `seccomp.restrict_to_asking`. Each of its connect(2) calls waits until this process has connected a socket
of its own, installed it in place of the caller's socket, and replied (seccomp_unotify(2), Linux 5.9). The requested address is
never read, so the process cannot reach any other address, not even by changing the arguments during the call.
"""

import asyncio
import errno
import fcntl
import logging
import os
import select
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial

NOTICE = struct.Struct("<QIIiIQ6Q")  # struct seccomp_notif: id, pid, flags, then struct seccomp_data with the arguments
ARGUMENTS = 6  # index of the first argument in NOTICE
PLACED = struct.Struct("<QIIII")  # struct seccomp_notif_addfd: id, flags, our descriptor, theirs, its flags
ANSWER = struct.Struct("<QqiI")  # struct seccomp_notif_resp: id, value, negative error number, flags
RECEIVE, SEND, ADD = 0xC0502100, 0xC0182101, 0x40182103  # SECCOMP_IOCTL_NOTIF_…: RECV, SEND, ADDFD
IN_PLACE = 1  # SECCOMP_ADDFD_FLAG_SETFD
PAUSE_SECONDS = 0.1  # after each connection, because a compromised process may request them in an endless loop

logger = logging.getLogger(__name__)

Connect = Callable[[], Awaitable[socket.socket]]


@asynccontextmanager
async def supervised(listener: int | None, connect: Connect) -> AsyncIterator[None]:
    """Supervise a process while the context is active, as `supervise`; then close the descriptor. None supervises nothing."""
    if listener is None:
        yield
        return
    supervising = asyncio.create_task(supervise(listener, connect))
    supervising.add_done_callback(partial(_close, listener))
    try:
        yield
    finally:
        supervising.cancel()
        await asyncio.wait([supervising])


async def supervise(listener: int, connect: Connect) -> None:
    """Serve connection requests, one at a time, until the process has ended. listener: the seccomp filter's descriptor.

    connect: returns a connected non-blocking socket; an OSError is returned to the process.
    """
    while not (state := _state(listener)) & (select.POLLHUP | select.POLLERR):
        if not state & select.POLLIN:  # receiving would block
            await _wait_event(listener)
        elif (notice := _receive(listener)) is not None:
            await _serve(listener, notice, connect)
            await asyncio.sleep(PAUSE_SECONDS)


async def reach(host: str, port: int, seconds: float) -> socket.socket:
    """Connect to the first of a host's addresses that answers within `seconds`; OSError if none does."""
    loop = asyncio.get_running_loop()
    problem = OSError(errno.EHOSTUNREACH, "it has no address")
    for family, kind, protocol, _, address in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        connection = socket.socket(family, kind, protocol)
        connection.setblocking(False)
        try:
            async with asyncio.timeout(seconds):
                await loop.sock_connect(connection, address)
            return connection
        except OSError as error:  # including TimeoutError, which has no errno
            connection.close()
            problem = error
        except BaseException:
            connection.close()
            raise
    raise problem


async def _wait_event(listener: int) -> None:
    """Wait for an event on the descriptor. The loop watches it only here, so that a pending request does not keep waking it."""
    requested, loop = asyncio.Event(), asyncio.get_running_loop()
    loop.add_reader(listener, requested.set)
    try:
        await requested.wait()
    finally:
        loop.remove_reader(listener)


def _close(listener: int, task: asyncio.Task[None]) -> None:
    """Close the descriptor, and log an error that ended the supervision: the process then waits for connections until killed."""
    os.close(listener)
    if not task.cancelled() and (error := task.exception()):
        logger.error("connection requests are no longer served: %r", error, exc_info=error)


async def _serve(listener: int, notice: tuple[int, ...], connect: Connect) -> None:
    number, descriptor = notice[0], notice[ARGUMENTS]
    status = 0
    try:
        with await connect() as connection:
            fcntl.ioctl(
                listener, ADD, PLACED.pack(number, IN_PLACE, connection.fileno(), descriptor & 0xFFFFFFFF, os.O_CLOEXEC)
            )
    except OSError as error:
        status = -(error.errno if error.errno and error.errno > 0 else errno.ETIMEDOUT)
    with suppress(OSError):  # the process is gone
        fcntl.ioctl(listener, SEND, ANSWER.pack(number, 0, status, 0))


def _receive(listener: int) -> tuple[int, ...] | None:
    buffer = bytearray(NOTICE.size)
    try:
        fcntl.ioctl(listener, RECEIVE, buffer)
    except OSError:  # the requesting process is gone
        return None
    return NOTICE.unpack(buffer)


def _state(listener: int) -> int:
    poller = select.poll()
    poller.register(listener, select.POLLIN)
    return sum(state for _, state in poller.poll(0))
