"""Children that are forked, owned, and ended with their owner."""

import os
import signal
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from upres.service.execution.channel import Channel
from upres.service.execution.sandbox import fork_server
from upres.service.execution.sandbox.fork_server import ForkServer
from upres.service.live import framing

SECONDS = 30


@pytest.fixture
def server():
    with closing(ForkServer()) as server:
        yield server


def exchanged(child, message):
    channel = Channel(child.end)
    channel.send(message)
    with closing(channel):
        return channel.receive()[0]


def processes():
    """The fork server that this process has started, and its children."""
    return psutil.Process().children(recursive=True)


def forked(server):
    """A child that waits for its first message, and its process."""
    before = {process.pid for process in processes()}
    child = server.fork()
    while True:
        # Its parent is the fork server, a child of this process like others that earlier tests have left.
        fresh = [each for each in processes() if each.pid not in before and each.ppid() != os.getpid()]
        if fresh:
            return child, fresh[0]
        assert not child.ended.wait(0.05)


def until_ended(process):
    try:
        process.wait(SECONDS)
    except psutil.TimeoutExpired:
        return False
    return True


def test_a_child_does_what_it_is_asked_and_ends(server):
    child = server.fork()
    assert set(exchanged(child, {"confine": {}})) == {"network", "files"}
    assert child.ended.wait(SECONDS)


def test_who_waits_for_it_finds_it_started_and_leaves_no_child(server):
    server.start()
    server.wait(SECONDS)
    assert psutil.Process(server._process.pid).children() == [] and not server._children
    assert exchanged(server.fork(), {"confine": {}})


def test_a_child_that_fails_takes_nothing_with_it(server):
    child = server.fork()
    with pytest.raises((EOFError, OSError)):
        exchanged(child, {"what": "nobody knows"})
    assert child.ended.wait(SECONDS)
    assert exchanged(server.fork(), {"confine": {}})


def test_many_children_at_once_each_have_their_own_socket(server):
    children = [server.fork() for _ in range(20)]
    for child in reversed(children):
        assert exchanged(child, {"confine": {}})
    assert all(child.ended.wait(SECONDS) for child in children)


def test_a_child_that_is_killed_has_ended(server):
    child = server.fork()
    child.kill()
    assert child.ended.wait(SECONDS)
    child.kill()  # again, without effect
    child.end.close()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_child_holds_nothing_but_its_socket_and_runs_one_thread(server):
    others = [server.fork() for _ in range(3)]
    child, process = forked(server)
    descriptors = Path(f"/proc/{process.pid}/fd")
    while len(list(descriptors.iterdir())) > 4:  # and stdin, stdout, stderr; it closes the rest when it starts to run
        assert not child.ended.wait(0.05)
    assert len(list(descriptors.iterdir())) == 4
    assert process.num_threads() == 1
    for each in (*others, child):
        each.end.close()


def test_a_server_that_dies_takes_its_children_and_starts_again(server):
    child, process = forked(server)
    os.kill(process.ppid(), signal.SIGKILL)
    assert child.ended.wait(SECONDS) and until_ended(process)
    child.end.close()
    assert exchanged(server.fork(), {"confine": {}})


def test_closing_a_server_ends_its_children(server):
    child, process = forked(server)
    server.close()
    assert child.ended.wait(SECONDS) and until_ended(process)
    child.end.close()


OWNER = """
from upres.service.execution.sandbox.fork_server import ForkServer
server = ForkServer()
children = [server.fork() for _ in range(2)]
print("forked", flush=True)
input()
"""


def test_no_child_outlives_an_owner_that_is_killed():
    command = [sys.executable, "-c", OWNER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout.readline() == "forked\n"
        children = []
        while len(children) < 3:
            children = psutil.Process(owner.pid).children(recursive=True)
        owner.kill()
        owner.wait()
    assert all(until_ended(process) for process in children)


def test_a_header_that_is_too_long_ends_the_child(server):
    child = server.fork()
    child.end.sendall((1 << 30).to_bytes(framing.SIZE_BYTES, "big"))
    assert child.ended.wait(SECONDS)
    child.end.close()


def test_a_server_that_takes_no_orders_is_replaced_at_once(server, monkeypatch):
    """Event loops fork, so the end of a server with a broken control socket is not waited for, even if it hangs."""
    child, _ = forked(server)
    hung = server._process
    os.kill(hung.pid, signal.SIGSTOP)
    server._control.shutdown(socket.SHUT_RDWR)
    monkeypatch.setattr(fork_server, "STOP_SECONDS", None)  # such a wait would never end
    assert set(exchanged(server.fork(), {"confine": {}})) == {"network", "files"}
    with child.end:
        assert child.ended.wait(SECONDS) and hung.returncode == -signal.SIGKILL
