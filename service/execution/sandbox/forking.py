"""The main loop of a fork server: forks a child per request, and owns the children until they have ended.

A fork copies only the calling thread, along with the locks that other threads hold, so this process must be single-threaded. Its
children need not import anything again. Requests arrive on a control socket as messages of fixed size: `FORK` with a number and a
descriptor, which becomes the child's; `KILL` with a number. Each child's end is reported as its number and exit status. When the
control socket closes, this process and all children end.
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
    """The loop. run: executed in each child with its socket."""

    def __init__(self, control: socket.socket, run: Run) -> None:
        self._control = control
        self._run = run
        self._children: dict[int, int] = {}  # number → process
        self._inherited: list[Callable[[], None]] = []  # callbacks that close inherited descriptors in a child

    def serve(self) -> None:
        """Fork, kill and reap children until the control socket closes."""
        woken, wake = socket.socketpair()
        woken.setblocking(False)
        wake.setblocking(False)
        signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
        # Without a handler nothing would be written to `wake`.
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
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
        """Handle one request; return False at the end of the control socket."""
        data, descriptors, _, _ = socket.recv_fds(self._control, REQUEST.size, 1)
        if len(data) < REQUEST.size:
            return False
        kind, number = REQUEST.unpack(data)
        if kind == FORK and not descriptors:  # this process has too many open descriptors
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
        """Run the child's task, and end this process in every case."""
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
        except BaseException:  # the parent's loop must not continue in a child
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
        with suppress(OSError):  # the control socket has closed, which will end this process
            self._control.sendall(NOTICE.pack(number, status))

    def _kill_all(self) -> None:
        for child in self._children.values():
            os.kill(child, signal.SIGKILL)
