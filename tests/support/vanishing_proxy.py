"""A TCP proxy that can vanish: connections stay open, but nothing passes."""

import socket
import threading
from contextlib import ExitStack, suppress


class VanishingProxy:
    """Listens on its own port until it vanishes."""

    def __init__(self, host, port):
        self._upstream = host, port
        self._vanished = threading.Event()
        self._open = ExitStack()
        self._listening = self._open.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.target = f"127.0.0.1:{self._listening.getsockname()[1]}"

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.vanish()
        self._open.close()

    def vanish(self):
        """Forward nothing from now on, and accept no new connections."""
        self._vanished.set()
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)

    def _accept(self):
        with suppress(OSError):
            while True:
                ends = self._listening.accept()[0], socket.create_connection(self._upstream)
                for end in ends:
                    self._open.enter_context(end)
                for source, target in (ends, ends[::-1]):
                    threading.Thread(target=self._pass_on, args=(source, target), daemon=True).start()

    def _pass_on(self, source, target):
        with suppress(OSError):
            while (data := source.recv(1 << 16)) and not self._vanished.is_set():
                target.sendall(data)
