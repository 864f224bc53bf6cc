"""A proxy in front of moto's S3 server that injects the faults of a remote store, on its own port."""

import http.client
import logging
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import httpx
from moto.server import ThreadedMotoServer

HEADERS_OF_A_HOP = {"connection", "transfer-encoding", "content-length", "server", "date"}


@dataclass
class Faults:
    """away: answer every request with 503. delay: seconds before each response.

    cuts: number of object GETs that still are to be cut off in the middle. loses: number of PUTs that lose half of their bytes
    and are answered as if they had not. refuses: number of PUTs to refuse.
    requests: method, path and headers of every request; answered: their statuses.
    """

    away: bool = False
    delay: float = 0.0
    cuts: int = 0
    loses: int = 0
    refuses: int = 0
    requests: list = field(default_factory=list)
    answered: list = field(default_factory=list)
    changing: threading.Lock = field(default_factory=threading.Lock)

    def takes(self, name):
        """Report whether one of the counted faults is due, and count it down."""
        with self.changing:
            remaining = getattr(self, name)
            setattr(self, name, max(0, remaining - 1))
            return remaining > 0


class Handler(BaseHTTPRequestHandler):
    """Forwards requests unless a fault of its server prevents it."""

    protocol_version = "HTTP/1.1"

    def answer(self):
        faults = self.server.faults
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        faults.requests.append((self.command, self.path, dict(self.headers)))
        time.sleep(faults.delay)
        if faults.away:
            self.reply(503, {}, b"<Error><Code>SlowDown</Code></Error>")
            return
        if self.command == "PUT" and body and faults.takes("refuses"):
            self.reply(400, {}, b"<Error><Code>BadDigest</Code></Error>")
            return
        if self.command == "PUT" and body and faults.takes("loses"):
            body = body[: len(body) // 2]
        status, headers, data = self.passed_on(body)
        cut = self.command == "GET" and urlsplit(self.path).query == "" and faults.takes("cuts")
        self.reply(status, headers, data, cut=cut)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = answer

    def passed_on(self, body):
        target = self.server.target
        connection = http.client.HTTPConnection(target.hostname, target.port, timeout=60)
        try:
            kept = {name: value for name, value in self.headers.items() if name.lower() not in HEADERS_OF_A_HOP}
            connection.request(self.command, self.path, body, kept)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()

    def reply(self, status, headers, data, *, cut=False):
        self.server.faults.answered.append(status)
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in HEADERS_OF_A_HOP:
                self.send_header(name, value)
        size = headers.get("Content-Length", headers.get("content-length")) if self.command == "HEAD" else len(data)
        self.send_header("Content-Length", str(size or 0))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data[: len(data) // 2] if cut else data)
        self.close_connection = self.close_connection or cut

    def log_message(self, *_):
        pass


class Quiet(ThreadingHTTPServer):
    """A server in front of another one."""

    daemon_threads = True

    def __init__(self, target, faults):
        super().__init__(("127.0.0.1", 0), Handler)
        self.target, self.faults = target, faults

    def handle_error(self, request, client_address):
        """Ignore clients that disconnect; tests cause that on purpose."""


@contextmanager
def s3_server():
    """Return the address of moto's S3 server with an empty bucket of this name."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        httpx.put(f"http://{host}:{port}/bucket").raise_for_status()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def access(url):
    """Return the environment variables of a client of the S3 server at this address."""
    values = {"ENDPOINT_URL": url, "ALLOW_HTTP": "true", "REGION": "us-east-1"}
    values |= {"ACCESS_KEY_ID": "id", "SECRET_ACCESS_KEY": "secret"}
    return {f"AWS_{name}": value for name, value in values.items()}


@contextmanager
def faulty(server):
    """Yield the address of a faulty proxy in front of an S3 server, and its faults."""
    httpd = Quiet(urlsplit(server), faults := Faults())
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{httpd.server_address[1]}", faults
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join(20)
