"""A TCP proxy that cuts each connection after a number of client bytes, once the server has stored some of them."""

import socket
import threading
from contextlib import ExitStack, suppress
from pathlib import Path


class CuttingProxy:
    """Listens on its own port. after: bytes from the client before a connection is cut.

    Data that was sent but not stored is lost with the connection. On a slow machine that could be everything, so the proxy waits
    until the server has stored some of it.
    """

    def __init__(self, server, after):
        self._upstream = ("127.0.0.1", server.settings["grpc_port"])
        self._jobs = Path(server.settings["state"]) / "jobs"
        self._after = after
        self._ends = threading.Event()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.target = f"127.0.0.1:{self._listening.getsockname()[1]}"
        self.connections = 0

    def __enter__(self):
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()
        return self

    def __exit__(self, *_):
        self._ends.set()
        self._listening.shutdown(socket.SHUT_RDWR)
        self._accepting.join()

    def _accept(self):
        with ExitStack() as stack, suppress(OSError):
            stack.enter_context(self._listening)
            while True:
                client = stack.enter_context(self._listening.accept()[0])
                server = stack.enter_context(socket.create_connection(self._upstream))
                self.connections += 1
                for ends in ((client, server, self._after), (server, client, None)):
                    threading.Thread(target=self._pass_on, args=ends, daemon=True).start()

    def _stored(self):
        return sum(path.stat().st_size for path in self._jobs.glob("*/source"))

    def _pass_on(self, source, target, limit):
        passed, before = 0, self._stored()
        with suppress(OSError):
            while (limit is None or passed < limit) and (data := source.recv(1 << 16)):
                target.sendall(data)
                passed += len(data)
        while limit and passed >= limit and self._stored() == before and not self._ends.wait(0.01):
            pass
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
