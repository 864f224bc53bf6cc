"""An OTLP trace collector: a real HTTP server on 127.0.0.1 that stores the spans it receives."""

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Collector(ThreadingHTTPServer):
    """`spans` holds all received spans, `headers` the path and headers of each request."""

    block_on_close = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.spans, self.headers, self.resources = [], [], []
        self.changed = threading.Condition()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def wait(self, condition):
        """Wait until the spans meet a condition, up to a few minutes; return them."""
        with self.changed:
            assert self.changed.wait_for(lambda: condition(self.spans), 200), [span.name for span in self.spans]
            return [*self.spans]


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

        message = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.changed:
            self.server.headers.append((self.path, dict(self.headers)))
            for of_one in message.resource_spans:
                self.server.resources.append({each.key: each.value.string_value for each in of_one.resource.attributes})
                self.server.spans += [span for scope in of_one.scope_spans for span in scope.spans]
            self.server.changed.notify_all()
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@contextmanager
def collecting():
    with Collector() as collector:
        thread = threading.Thread(target=collector.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield collector
        finally:
            collector.shutdown()
            thread.join()
