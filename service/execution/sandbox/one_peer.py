"""Connections that are made for a process which may not make any: wherever it asks to go, it gets to the one address it may.

The process runs under `seccomp.restrict_to_asking`. Each of its connect(2) waits until this process has connected a socket of its
own, put it in the place of the one that was to be connected, and answered (seccomp_unotify(2), Linux 5.9). What the process
asks for is not even looked at, so nothing it could say, or change while it is read, leads anywhere else.
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
ARGUMENTS = 6  # where those begin
PLACED = struct.Struct("<QIIII")  # struct seccomp_notif_addfd: id, flags, our descriptor, theirs, its flags
ANSWER = struct.Struct("<QqiI")  # struct seccomp_notif_resp: id, value, negative error number, flags
RECEIVE, SEND, ADD = 0xC0502100, 0xC0182101, 0x40182103  # SECCOMP_IOCTL_NOTIF_…: RECV, SEND, ADDFD
IN_PLACE = 1  # SECCOMP_ADDFD_FLAG_SETFD
PAUSE_SECONDS = 0.1  # behind each connection, for a process that was taken over may ask without end

logger = logging.getLogger(__name__)

Connect = Callable[[], Awaitable[socket.socket]]


@asynccontextmanager
async def supervised(listener: int | None, connect: Connect) -> AsyncIterator[None]:
    """Supervise a process meanwhile; as `supervise`. The descriptor is closed behind it. None supervises nothing."""
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
    """Make every connection that is asked for, one at a time, until the process has ended. listener: what the filter gave.

    connect: gives a connected socket that does not block; an OSError of it is what the process gets.
    """
    while not (state := _state(listener)) & (select.POLLHUP | select.POLLERR):
        if not state & select.POLLIN:  # receiving would wait
            await _asked(listener)
        elif (notice := _received(listener)) is not None:
            await _serve(listener, notice, connect)
            await asyncio.sleep(PAUSE_SECONDS)


async def reach(host: str, port: int, seconds: float) -> socket.socket:
    """Connect to a host by the first of its addresses that answers within this time; OSError where none does."""
    loop = asyncio.get_running_loop()
    problem = OSError(errno.EHOSTUNREACH, "it has no address")
    for family, kind, protocol, _, address in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        connection = socket.socket(family, kind, protocol)
        connection.setblocking(False)
        try:
            async with asyncio.timeout(seconds):
                await loop.sock_connect(connection, address)
            return connection
        except OSError as error:  # TimeoutError is one, without a number
            connection.close()
            problem = error
        except BaseException:
            connection.close()
            raise
    raise problem


async def _asked(listener: int) -> None:
    """Wait for something to happen. Only then is the loop woken: what is asked meanwhile would wake it all the time."""
    asked, loop = asyncio.Event(), asyncio.get_running_loop()
    loop.add_reader(listener, asked.set)
    try:
        await asked.wait()
    finally:
        loop.remove_reader(listener)


def _close(listener: int, task: asyncio.Task[None]) -> None:
    """End a supervision, and log the fault that ended it: its process then waits for connections until it is killed."""
    os.close(listener)
    if not task.cancelled() and (error := task.exception()):
        logger.error("connections are made no more: %r", error, exc_info=error)


async def _serve(listener: int, notice: tuple[int, ...], connect: Connect) -> None:
    number, theirs = notice[0], notice[ARGUMENTS]
    status = 0
    try:
        with await connect() as connection:
            fcntl.ioctl(
                listener, ADD, PLACED.pack(number, IN_PLACE, connection.fileno(), theirs & 0xFFFFFFFF, os.O_CLOEXEC)
            )
    except OSError as error:
        status = -(error.errno if error.errno and error.errno > 0 else errno.ETIMEDOUT)
    with suppress(OSError):  # the process is gone
        fcntl.ioctl(listener, SEND, ANSWER.pack(number, 0, status, 0))


def _received(listener: int) -> tuple[int, ...] | None:
    buffer = bytearray(NOTICE.size)
    try:
        fcntl.ioctl(listener, RECEIVE, buffer)
    except OSError:  # who asked is gone
        return None
    return NOTICE.unpack(buffer)


def _state(listener: int) -> int:
    poller = select.poll()
    poller.register(listener, select.POLLIN)
    return sum(state for _, state in poller.poll(0))
