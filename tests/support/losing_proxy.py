"""A TCP proxy to PostgreSQL that drops responses to COMMITs: the transaction is committed, but the client's connection breaks."""

import socket
import threading
from contextlib import ExitStack, suppress
from urllib.parse import parse_qs, urlsplit

PORT = 5432  # suffix of PostgreSQL's socket file
WRITES = b"INSERT ", b"UPDATE ", b"DELETE "  # command tags with which the server reports changes


class LosingProxy:
    """Listens on its own port. url: of the database through the proxy. lost: number of dropped responses.

    each: drop every nth response from now on; 0 drops none. reached: whether connections are accepted.
    """

    def __init__(self, url):
        parts = urlsplit(url)
        self._upstream = f"{parse_qs(parts.query)['host'][0]}/.s.PGSQL.{PORT}"
        self._open = ExitStack()
        self._listening = self._open.enter_context(socket.create_server(("127.0.0.1", 0)))
        port = self._listening.getsockname()[1]
        self.url = f"postgresql://postgres:@127.0.0.1:{port}{parts.path}?sslmode=disable"
        self.each = self.lost = self._committed = 0
        self.reached = True
        self._counting = threading.Lock()

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._open.close()

    def lose_next(self):
        """Drop only the response to the next COMMIT."""
        self.each, self._committed = -1, 0

    def _accept(self):
        with suppress(OSError):
            while True:
                client = self._open.enter_context(self._listening.accept()[0])
                if not self.reached:
                    client.close()
                    continue
                server = self._open.enter_context(socket.socket(socket.AF_UNIX))
                server.connect(self._upstream)
                wrote, lost = threading.Event(), threading.Event()
                for ends in ((client, server, wrote, lost, True), (server, client, wrote, lost, False)):
                    threading.Thread(target=self._pass_on, args=ends, daemon=True).start()

    def _pass_on(self, source, target, wrote, lost, asks):
        with suppress(OSError):
            while data := source.recv(1 << 16):
                if asks and b"COMMIT" in data and wrote.is_set() and self._loses():
                    lost.set()
                elif not asks and lost.is_set():  # it is committed by now
                    break
                if asks and b"COMMIT" in data:
                    wrote.clear()
                elif not asks and any(done in data for done in WRITES):
                    wrote.set()
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _loses(self):
        with self._counting:
            self._committed += 1
            loses = self.each < 0 or bool(self.each and not self._committed % self.each)
            self.each = max(self.each, 0)
            self.lost += loses
            return loses
