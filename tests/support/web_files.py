"""A web server for files with range requests, and with the faults of real web servers."""

import re
import threading
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit


class WebFiles(ThreadingHTTPServer):
    """files: bytes by path. answers: statuses of the next responses, before it serves normally.

    open_ranges: False to send the whole file for `bytes=0-`.
    most: bytes of a response after which the connection is closed. blocks: block size to which range starts are rounded down.
    hold: event that delays the body after the header; silent: event that delays the whole response.
    tag: the ETag of every file. requests: the ranges requested so far.
    """

    daemon_threads = True

    def __init__(self, files):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = files
        self.answers = deque()
        self.most = None
        self.ranges, self.open_ranges = True, True
        self.blocks = 1
        self.tag = '"1"'
        self.kind = "video/mp4"
        self.requests = []
        self.arrived = threading.Event()
        self.hold, self.silent = threading.Event(), threading.Event()
        self.hold.set()
        self.silent.set()

    def __enter__(self):
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.hold.set()
        self.silent.set()
        self.shutdown()
        self.server_close()

    def url(self, path):
        return f"http://127.0.0.1:{self.server_port}/{path}"

    def handle_error(self, request, client_address):
        """Ignore clients that disconnect; some tests cause that on purpose."""


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        server.requests.append(self.headers["Range"])
        if not server.silent.is_set():
            server.arrived.set()
            server.silent.wait(60)
        status = server.answers.popleft() if server.answers else 200
        data = server.files.get(unquote(urlsplit(self.path).path).lstrip("/"))
        if status != 200 or data is None:
            self.send_error(404 if data is None else status)
            return
        asked_range = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers["Range"] or "")
        if asked_range and asked_range.groups() == ("0", "") and not server.open_ranges:
            asked_range = None
        same = self.headers["If-Range"] in (None, server.tag)
        start = int(asked_range[1]) // server.blocks * server.blocks if asked_range and server.ranges and same else None
        end = len(data) if start is None or not asked_range[2] else int(asked_range[2]) + 1
        self.send_response(200 if start is None else 206)
        if start is not None:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(data)}")
        if not server.open_ranges:
            self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(end - (start or 0)))
        self.send_header("Content-Type", server.kind)
        self.send_header("ETag", server.tag)
        self.end_headers()
        server.arrived.set()
        server.hold.wait(60)
        self.wfile.write(data[start or 0 : end][: server.most])

    def log_message(self, *_):
        """Log nothing."""
