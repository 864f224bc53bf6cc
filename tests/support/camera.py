"""A camera on a port of this machine: it gives each connection one piece of its stream."""

import socket
import threading
from contextlib import suppress


class Camera:
    """pieces: one a connection. `asked` is set by one more than there are, which is held open and gets nothing; port: where."""

    def __init__(self, *pieces):
        self.asked, self.pieces = threading.Event(), [*pieces]
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self._open = []

    def _serve(self):
        with suppress(OSError):  # it is switched off
            while True:
                connection, _ = self._server.accept()
                self._open.append(connection)
                if not self.pieces:
                    self.asked.set()
                    continue
                connection.sendall(self.pieces.pop(0))
                connection.shutdown(socket.SHUT_WR)

    def __enter__(self):
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_):
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        for each in (self._server, *self._open):
            each.close()
