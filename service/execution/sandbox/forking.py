"""The loop of a process that forks another for each request, and owns those until they have ended.

A fork copies one thread only, with whatever locks the others hold, so this process must have no other; what it has imported
its children need not. Requests come on a control socket as messages of one size: `FORK` with a number and a descriptor, which
becomes the child's; `KILL` with a number. Each end goes back as a number and a status. When the control socket closes, all end.
"""

import os
import selectors
import signal
import socket
import struct
import sys
from collections.abc import Callable
from contextlib import suppress

from .limits import die_with_parent

REQUEST = struct.Struct(">cQ")
NOTICE = struct.Struct(">Qi")
FORK, KILL = b"F", b"K"
FAILED = 1  # status of a child that raised, or could not be forked

Run = Callable[[socket.socket], None]


class Forking:
    """run: what a child does with its descriptor, a socket; it may raise nothing that matters to anybody else."""

    def __init__(self, control: socket.socket, run: Run) -> None:
        self._control = control
        self._run = run
        self._children: dict[int, int] = {}  # number → process
        self._inherited: list[Callable[[], None]] = []  # closes what a child has no use for

    def serve(self) -> None:
        """Fork, kill and reap until the control socket closes."""
        woken, wake = socket.socketpair()
        woken.setblocking(False)
        wake.setblocking(False)
        signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)  # or nothing would be written to `wake`
        with selectors.DefaultSelector() as selector:
            selector.register(self._control, selectors.EVENT_READ)
            selector.register(woken, selectors.EVENT_READ)
            self._inherited = [selector.close, woken.close, wake.close, self._control.close]
            while True:
                for key, _ in selector.select():
                    if key.fileobj is woken:
                        woken.recv(4096)
                        self._reap()
                    elif not self._take():
                        return self._kill_all()

    def _take(self) -> bool:
        """Take one request; whether there was one."""
        data, descriptors, _, _ = socket.recv_fds(self._control, REQUEST.size, 1)
        if len(data) < REQUEST.size:
            return False
        kind, number = REQUEST.unpack(data)
        if kind == FORK and not descriptors:  # this process has too many open already
            self._notify(number, FAILED)
        elif kind == FORK:
            self._fork(number, descriptors[0])
        elif number in self._children:
            os.kill(self._children[number], signal.SIGKILL)
        return True

    def _fork(self, number: int, descriptor: int) -> None:
        try:
            child = os.fork()
        except OSError:
            self._notify(number, FAILED)
        else:
            if not child:
                self._be_child(descriptor)
            self._children[number] = child
        os.close(descriptor)

    def _be_child(self, descriptor: int) -> None:
        """Run, and end this process whatever happens."""
        status = FAILED
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for close in self._inherited:
                close()
            die_with_parent()
            with socket.socket(fileno=descriptor) as end:
                self._run(end)
            status = 0
        except BaseException:  # nothing of the loop may run in a child
            sys.excepthook(*sys.exc_info())
        finally:
            with suppress(OSError):
                sys.stderr.flush()
            os._exit(status)

    def _reap(self) -> None:
        for number, child in list(self._children.items()):
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                del self._children[number]
                self._notify(number, os.waitstatus_to_exitcode(status))

    def _notify(self, number: int, status: int) -> None:
        with suppress(OSError):  # the control socket has closed, which ends this process next
            self._control.sendall(NOTICE.pack(number, status))

    def _kill_all(self) -> None:
        for child in self._children.values():
            os.kill(child, signal.SIGKILL)
