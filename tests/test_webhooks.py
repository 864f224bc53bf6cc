"""Webhooks to a receiver of the test's own, on a clock of the test's own."""

import asyncio
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from upres.service import states
from upres.service.spec import Spec
from upres.service.states import Failure, Reason
from upres.service.store import Job, Store, new_id
from upres.service.target import ForbiddenError, Rules, public
from upres.service.webhooks import WAITS, Webhooks, signature

SECRET = "s" * 32


@pytest.fixture
def receiver():
    """A server that keeps what it gets and answers with `status`."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.server.got.append((dict(self.headers), body))
            self.send_response(self.server.status)
            self.send_header("Location", "http://127.0.0.1:1/")
            self.end_headers()

        def log_message(self, *args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    server.got, server.status = [], 200
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join(10)
    server.server_close()


class Bench:
    def __init__(self, receiver, rules=None):
        self.now = 1000.0
        self.store = Store.in_memory()
        self.url = f"http://127.0.0.1:{receiver.server_port}/hook"
        self.rules = rules or Rules(http=True, hosts=("127.0.0.1",))

    def job(self):
        spec = Spec("m", webhook_url=self.url, webhook_secret=SECRET)
        return self.store.add(Job(new_id(), "alice", spec.as_json(), accepted=True))[0].request_id

    def step(self, times=1):
        async def run():
            hooks = Webhooks(self.store, self.rules, lambda job: "https://there", lambda: self.now)
            for _ in range(times):
                await hooks.step()
            await hooks.stop()

        asyncio.run(run())


def test_each_transition_is_told_once_signed_over_the_bytes_sent(receiver):
    bench = Bench(receiver)
    request_id = bench.job()
    bench.store.change(request_id, states.begun)
    bench.store.change(request_id, lambda s: states.progressed(s, 50))
    bench.step(2)
    bench.store.change(request_id, states.finished)
    bench.step(2)
    assert [headers["X-DeAPI-Event"] for headers, _ in receiver.got] == ["job.processing", "job.completed"]
    for headers, body in receiver.got:
        assert headers["X-DeAPI-Signature"] == signature(SECRET, headers["X-DeAPI-Timestamp"], body)
        assert json.loads(body)["delivery_id"] == headers["X-DeAPI-Delivery-Id"]
    data = json.loads(receiver.got[1][1])["data"]
    assert (data["job_request_id"], data["status"], data["previous_status"]) == (request_id, "done", "processing")
    assert data["result_url"] == "https://there" and data["processing_time_ms"] >= 0
    bench.store.close()


def test_a_failed_job_tells_why(receiver):
    bench = Bench(receiver)
    request_id = bench.job()
    bench.store.change(request_id, lambda s: states.failed(s, Failure(Reason.TIMEOUT, "too slow")))
    bench.step()
    data = json.loads(receiver.got[0][1])["data"]
    assert (data["error_code"], data["error_reason"], data["retryable"]) == ("WORKER_TIMEOUT", "TIMEOUT", True)
    bench.store.close()


@pytest.mark.parametrize("status", [500, 302])
def test_what_was_not_taken_is_tried_ten_times_with_the_same_id(receiver, status):
    bench = Bench(receiver)
    bench.store.change(bench.job(), states.begun)
    receiver.status = status
    bench.step(2)
    for wait in WAITS:
        bench.now += wait - 1
        bench.step()
        bench.now += 1
        bench.step()
    bench.now += 10 * WAITS[-1]
    bench.step()
    assert len(receiver.got) == 10
    assert len({headers["X-DeAPI-Delivery-Id"] for headers, _ in receiver.got}) == 1
    assert len({headers["X-DeAPI-Timestamp"] for headers, _ in receiver.got}) == 10
    bench.store.close()


def test_private_targets_are_not_called(receiver):
    bench = Bench(receiver, Rules(http=True))
    bench.store.change(bench.job(), states.begun)
    bench.step()
    assert receiver.got == []
    bench.store.close()


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/",
        "ftp://example.com/",
        "https://localhost/",
        "https://127.1/",
        "https://[::1]/",
        "https:///x",
    ],
)
def test_forbidden_urls(url):
    with pytest.raises(ForbiddenError):
        asyncio.run(Rules().pin(url))


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
        ("10.0.0.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("fe80::1%eth0", False),
        ("fc00::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:8.8.8.8", True),
        ("2002:7f00:1::", False),
    ],
)
def test_public_addresses(address, expected):
    assert public(address) is expected
