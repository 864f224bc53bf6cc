"""A webhook receiver: a real HTTP or HTTPS server on 127.0.0.1 that returns given statuses and stores what it receives."""

import contextlib
import json
import ssl
import threading
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Receiver(ThreadingHTTPServer):
    """answers: statuses in turn; the last repeats. hold: delays responses until set. received: path, headers and body of each."""

    block_on_close = True

    def __init__(self, authority=None, name="hooks.example"):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers = deque([200])
        self.hold = threading.Event()
        self.hold.set()
        self.arrived = threading.Event()
        self.received = []
        self.names = []  # server names requested by TLS clients
        self.scheme = "http"
        if authority is not None:
            self.scheme = "https"
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            authority.issue_cert(name).configure_cert(context)
            context.sni_callback = lambda socket, server_name, context: self.names.append(server_name)
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    def url(self, host="hooks.example", path="/hook"):
        return f"{self.scheme}://{host}:{self.server_port}{path}"

    def bodies(self, count):
        """Wait for this many POSTs and return their bodies."""
        while len(self.received) < count:
            assert self.arrived.wait(60)
            self.arrived.clear()
        return [json.loads(body) for _, _, body in self.received]

    def handle_error(self, request, client_address):
        """Ignore clients that disconnect; some tests cause that on purpose."""


class Handler(BaseHTTPRequestHandler):
    timeout = 10

    def do_GET(self):
        self.answer()

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.received.append((self.path, dict(self.headers), body))
        self.server.arrived.set()
        self.server.hold.wait(60)
        self.answer()

    def answer(self):
        answers = self.server.answers
        self.send_response(answers.popleft() if len(answers) > 1 else answers[0])
        self.send_header("Location", "http://127.0.0.1:9/elsewhere")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *arguments):
        pass


@contextlib.contextmanager
def receiving(*arguments, **options):
    with Receiver(*arguments, **options) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.hold.set()
            server.shutdown()
            thread.join(10)
