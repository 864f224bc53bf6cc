"""A fork server: creates child processes within milliseconds from a process that has already imported everything.

Starting Python and importing the video libraries takes a third of a second of CPU time; forking a process that has done so takes
a few milliseconds. Each user of this module has a separate server that owns its children: they die with it.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from typing import IO

from upres.service.domain import job_logging

from .environment import environment
from .forking import FORK, KILL, NOTICE, REQUEST

CHILD = "upres.service.execution.fork_parent"  # run as `python -m CHILD DESCRIPTOR`
LINE_BYTES = 1 << 16  # of a log line
STOP_SECONDS = 5.0  # for a server to end once its control socket is closed
# Otherwise NumPy starts more threads on import.
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
FEW_ARENAS = {"MALLOC_ARENA_MAX": "2"}  # otherwise glibc reserves 64 MB of the limited address space per decoder thread


class Child:
    """A child process. end: our end of a socket to it. ended: set once it has ended."""

    def __init__(self, server: "ForkServer", number: int, end: socket.socket) -> None:
        self.end = end
        self.ended = threading.Event()
        self._server = server
        self._number = number

    def kill(self) -> None:
        """Kill it if it is still running. Does not wait; safe from any thread."""
        if not self.ended.is_set():
            self._server.kill(self._number)


class ForkServer:
    """Starts the server process for the first child, and restarts it if it has died. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._children: dict[int, Child] = {}
        self._number = 0

    def start(self) -> None:
        """Start the server process before its first child; OSError if the system cannot start a process."""
        with self._lock:
            self._ensure()

    def wait(self, seconds: float) -> None:
        """Wait until the server can fork without delay, i.e. its imports are done, or until `seconds` have passed."""
        with suppress(OSError):  # the next user of `fork` gets the same error
            child = self.fork()
            child.end.close()  # the child has no task, so it ends
            child.ended.wait(seconds)

    def fork(self) -> Child:
        """Fork a child; OSError if the system cannot start a process."""
        with self._lock:
            self._ensure()
            try:
                return self._ask()
            except OSError:  # the server has just died
                self._start()
                return self._ask()

    def kill(self, number: int) -> None:
        """Kill a child."""
        with self._lock, suppress(OSError):  # if the server has died, its children have died too
            if self._control is not None and number in self._children:
                self._control.sendall(REQUEST.pack(KILL, number))

    def close(self) -> None:
        """End the server and all its children. The next `fork` restarts it."""
        with self._lock:
            self._stop(STOP_SECONDS)

    def _ensure(self) -> None:
        if self._process is None or self._process.poll() is not None:
            self._start()

    def _ask(self) -> Child:
        assert self._control is not None
        own_end, child_end = socket.socketpair()
        with child_end:
            self._number += 1
            child = self._children[self._number] = Child(self, self._number, own_end)
            try:
                socket.send_fds(self._control, [REQUEST.pack(FORK, self._number)], [child_end.fileno()])
            except OSError:
                del self._children[self._number]
                own_end.close()
                raise
        return child

    def _start(self) -> None:
        self._stop(0)  # the old process is dead or unresponsive; do not wait, since event loops call this
        self._control, child_end = socket.socketpair()
        with child_end:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", CHILD, str(child_end.fileno())],
                pass_fds=[child_end.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=environment() | ONE_THREAD | FEW_ARENAS,
                start_new_session=True,
            )
        watched = self._control, self._children
        threading.Thread(target=_watch, args=watched, name="fork-server", daemon=True).start()
        threading.Thread(target=_log, args=(self._process.stdout,), name="fork-server-log", daemon=True).start()

    def _stop(self, seconds: float) -> None:
        """End the server process; kill it if it has not ended within `seconds`."""
        if self._control is not None:
            with suppress(OSError):
                self._control.shutdown(socket.SHUT_RDWR)
            self._control = None
        if self._process is not None:
            try:
                self._process.wait(seconds)
            except subprocess.TimeoutExpired:
                os.kill(self._process.pid, signal.SIGKILL)
                self._process.wait()
            self._process = None
        self._children = {}


def _watch(control: socket.socket, children: dict[int, Child]) -> None:
    """Record the end of each child, and of all of them when the server ends."""
    with control:
        while len(notice := _receive(control)) == NOTICE.size:
            number, _ = NOTICE.unpack(notice)
            if child := children.pop(number, None):
                child.ended.set()
    for child in list(children.values()):
        child.ended.set()


def _log(output: IO[bytes]) -> None:
    """Pass on the log lines of the server and its children."""
    with output:
        while line := output.readline(LINE_BYTES):
            job_logging.log_forwarded(line.decode(errors="replace").rstrip(), source=id(output))


def _receive(control: socket.socket) -> bytes:
    with suppress(OSError):
        return control.recv(NOTICE.size, socket.MSG_WAITALL)
    return b""
