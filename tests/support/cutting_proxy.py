"""A TCP proxy that cuts every connection after so many bytes of its client."""

import socket
import threading
from contextlib import ExitStack, suppress


class CuttingProxy:
    """Listens on a port of its own. after: bytes from the client until a connection is cut."""

    def __init__(self, server, after):
        self._upstream = ("127.0.0.1", server.settings["grpc_port"])
        self._after = after
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.target = f"127.0.0.1:{self._listening.getsockname()[1]}"
        self.connections = 0

    def __enter__(self):
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()
        return self

    def __exit__(self, *_):
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

    @staticmethod
    def _pass_on(source, target, limit):
        passed = 0
        with suppress(OSError):
            while (limit is None or passed < limit) and (data := source.recv(1 << 16)):
                target.sendall(data)
                passed += len(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
