"""A process that may reach one address is connected to it for any address it requests, and reaches nothing else."""

import asyncio
import os
import socket
import subprocess
import sys
from contextlib import contextmanager
from functools import partial

import pytest

from upres.service.execution.sandbox import one_peer, seccomp

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has the means")
SECONDS = 60
CONFINED = """
import os, socket, sys
from upres.service.execution.sandbox.confinement import code_folders, confine_to_peer
from upres.service.execution.sandbox.limits import Bounds

code_folders()
channel = socket.socket(fileno=int(sys.argv[1]))
listener = confine_to_peer(Bounds(memory_bytes=1 << 30, cpu_seconds=20, file_bytes=0))
socket.send_fds(channel, [b"x"], [listener])
os.close(listener)
{attempt}
"""
ASKS = """
asking = socket.create_connection(("192.0.2.1", 9), 30)  # of nobody (RFC 5737)
asking.sendall(b"hello")
print(asking.recv(100).decode(), asking.getpeername()[1])
"""


@contextmanager
def confined(attempt):
    """A confined process, and the descriptor of its supervisor."""
    own_end, peer_end = socket.socketpair()
    command = [sys.executable, "-c", CONFINED.format(attempt=attempt), str(peer_end.fileno())]
    with (
        own_end,
        subprocess.Popen(
            command, pass_fds=[peer_end.fileno()], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process,
    ):
        peer_end.close()
        [listener] = socket.recv_fds(own_end, 1, 1)[1]
        try:
            yield process, listener
        finally:
            os.close(listener)
            process.kill()


async def answered(listener, reach):
    """Supervise a process until it has ended; return its output."""
    async with asyncio.timeout(SECONDS):
        await one_peer.supervise(listener, reach)


def test_wherever_it_asks_to_go_it_gets_to_its_peer():
    async def answer(reader, writer):
        writer.write(b"got " + await reader.readexactly(5))
        await writer.drain()
        writer.close()

    async def scenario(listener):
        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            await answered(listener, partial(one_peer.reach, "localhost", port, SECONDS))
        return port

    with confined(ASKS * 2) as (process, listener):
        port = asyncio.run(scenario(listener))
        assert process.communicate(timeout=SECONDS) == (f"got hello {port}\n" * 2, "")


def test_a_peer_that_refuses_is_what_it_hears():
    with confined(ASKS) as (process, listener):
        asyncio.run(answered(listener, partial(one_peer.reach, "127.0.0.1", 1, SECONDS)))
        assert "ConnectionRefusedError" in process.communicate(timeout=SECONDS)[1]


@pytest.mark.parametrize(
    "attempt",
    [
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM)",
        "socket.socket(socket.AF_INET, socket.SOCK_STREAM, 132)",  # SCTP, which can also connect with other calls
        "socket.socket(socket.AF_UNIX)",
        "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
        "socket.socket().sendto(b'x', socket.MSG_FASTOPEN, ('127.0.0.1', PORT))",
        "socket.socket().sendmsg([b'x'], [], socket.MSG_FASTOPEN, ('127.0.0.1', PORT))",
        "socket.socket().bind(('127.0.0.1', 0))",
        "open('/etc/hostname')",
        "os.fork()",
    ],
)
def test_it_has_no_other_way_out(attempt):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0)
        with confined(attempt.replace("PORT", str(listening.getsockname()[1]))) as (process, _):
            assert "PermissionError" in process.communicate(timeout=SECONDS)[1]
        with pytest.raises(BlockingIOError):
            listening.accept()


@pytest.mark.parametrize("machine", ["riscv64", "i686"])
def test_where_the_system_cannot_do_it_nothing_listens(machine, monkeypatch):
    monkeypatch.setattr(seccomp.platform, "machine", lambda: machine)
    assert seccomp.restrict_to_asking() is None
