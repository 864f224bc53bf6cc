"""Webhooks end to end: the contract's payloads, signatures, retries and rejections, with real receivers where bytes matter."""

import asyncio
import hashlib
import json

import pytest
from desk import SECRET, Desk, Posted, local
from receiver import receiving

from upres.service.domain import states
from upres.service.domain.states import Failure, Reason
from upres.service.webhooks.deliveries import MOST_ATTEMPTS, Stage
from upres.service.webhooks.dispatcher import url_problems
from upres.service.webhooks.egress import Allowed, Egress

CONTRACT_MINUTES = [0, 1, 2, 5, 10, 30, 60, 180, 360, 720]


@pytest.fixture
def desk():
    desk = Desk()
    yield desk
    desk.store.close()


def reference_signature(secret, timestamp, body):
    """Compute HMAC-SHA256 by its definition (RFC 2104), independent of the library that signs."""
    key, message = secret.encode("utf-8"), timestamp.encode("ascii") + b"." + body
    key = hashlib.sha256(key).digest() if len(key) > 64 else key
    key = key.ljust(64, b"\0")
    inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in key) + message).digest()
    return "sha256=" + hashlib.sha256(bytes(byte ^ 0x5C for byte in key) + inner).hexdigest()


def test_a_job_that_ends_well_is_told_of_in_the_contracts_words(desk):
    request_id = desk.done()
    post = Posted(200)
    desk.run(post)
    (url, headers, first), (_, _, second) = post.received
    assert url == "https://hooks.example/hook"
    delivery = headers["X-DeAPI-Delivery-Id"]
    assert first == {
        "event": "job.processing",
        "delivery_id": delivery,
        "timestamp": "1970-01-12T13:46:40+00:00",
        "data": {
            "job_request_id": request_id,
            "status": "processing",
            "previous_status": "pending",
            "job_type": "vid-upscale",
            "started_at": "1970-01-12T13:46:40+00:00",
        },
    }
    assert (second["event"], second["delivery_id"] != delivery) == ("job.completed", True)
    assert second["data"] == {
        "job_request_id": request_id,
        "status": "done",
        "previous_status": "processing",
        "job_type": "vid-upscale",
        "completed_at": "1970-01-12T13:46:42+00:00",
        "result_url": f"https://upres.example/{request_id}.mp4?at={desk.clock.now:.0f}",
        "processing_time_ms": 2000,
    }
    assert desk.deliveries.counts()[Stage.DELIVERED] == 2


def test_a_job_that_fails_is_told_of_with_its_reason(desk):
    request_id = desk.job()
    desk.store.change(request_id, lambda state: states.failed(state, Failure(Reason.TIMEOUT, "too slow")))
    post = Posted(204)
    desk.run(post)
    [(_, headers, body)] = post.received
    assert headers["X-DeAPI-Event"] == body["event"] == "job.failed"
    assert body["data"] == {
        "job_request_id": request_id,
        "status": "error",
        "previous_status": "pending",
        "job_type": "vid-upscale",
        "failed_at": "1970-01-12T13:46:40+00:00",
        "error_code": "WORKER_TIMEOUT",
        "error_message": "too slow",
        "error_reason": "TIMEOUT",
        "retryable": True,
        "refunded": False,
    }


def test_jobs_without_a_webhook_and_jobs_never_accepted_are_not_told_of(desk):
    desk.done(url=None)
    refused = desk.job(accepted=False)
    desk.store.change(refused, lambda state: states.failed(state, Failure(Reason.SOURCE_UNPROCESSABLE, "no video")))
    desk.run(Posted(200))
    assert sum(desk.deliveries.counts().values()) == 0


def test_the_bytes_that_arrive_are_the_bytes_that_were_signed(desk):
    with receiving() as receiver:
        receiver.answers.extendleft([500])
        desk.done(url=receiver.url())
        desk.run(local().post)
        timestamps = []
        for path, headers, body in receiver.received:
            timestamps.append(headers["X-DeAPI-Timestamp"])
            assert path == "/hook" and headers["Content-Type"] == "application/json"
            assert headers["X-DeAPI-Signature"] == reference_signature(SECRET, timestamps[-1], body)
            assert headers["X-DeAPI-Delivery-Id"] == json.loads(body)["delivery_id"]
        assert timestamps == ["1000002", "1000062", "1000062"]
        again, first, second = (headers["X-DeAPI-Delivery-Id"] for _, headers, _ in receiver.received)
        assert again == first != second


def test_without_a_secret_the_signature_is_empty(desk):
    with receiving() as receiver:
        desk.done(url=receiver.url(), secret=None)
        desk.run(local().post)
        _, headers, _ = receiver.received[0]
        assert headers["X-DeAPI-Signature"] == ""


@pytest.mark.parametrize("status", [199, 301, 302, 404, 500])
def test_ten_attempts_are_made_after_the_contracts_waits(desk, status):
    request_id = desk.job()
    desk.store.change(request_id, states.cancelled)
    start, times = desk.clock.now, []

    async def post(url, headers, body):
        times.append((desk.clock.now - start) / 60)
        assert headers["X-DeAPI-Timestamp"] == str(int(desk.clock.now))
        return status

    desk.run(post)
    assert times == [sum(CONTRACT_MINUTES[: n + 1]) for n in range(10)] and len(times) == MOST_ATTEMPTS
    assert desk.deliveries.counts()[Stage.FAILED] == 1


def test_a_redirect_and_a_slow_answer_are_failures(desk):
    with receiving() as receiver:
        receiver.answers.extendleft([302])
        receiver.hold.clear()
        request_id = desk.job(url=receiver.url())
        desk.store.change(request_id, states.started)
        problems = []

        async def post(url, headers, body):
            try:
                return await local(seconds=0.2).post(url, headers, body)
            except Exception as error:
                problems.append(str(error))
                receiver.hold.set()
                raise

        desk.run(post)
        assert problems == ["no response within 0.2 s"]
        assert {path for path, _, _ in receiver.received} == {"/hook"} and len(receiver.received) in (2, 3)
        assert desk.deliveries.counts()[Stage.DELIVERED] == 1


def test_a_name_that_turns_private_after_the_job_was_taken_is_not_called(desk):
    answers = [["93.184.216.34"]]

    async def resolve(host, port):
        return answers.pop() if answers else ["127.0.0.1"]

    egress = Egress(resolve, Allowed(http=True))
    with receiving() as receiver:
        assert asyncio.run(url_problems(egress, receiver.url())) == {}
        desk.done(url=receiver.url())
        desk.run(egress.post)
        assert receiver.received == [] and desk.deliveries.counts()[Stage.FAILED] == 2


def test_a_url_is_checked_when_a_job_names_it():
    async def resolve(host, port):
        if host == "later.example":
            raise OSError("not yet")
        return ["10.0.0.1"]

    def problems(url):
        return asyncio.run(url_problems(Egress(resolve), url))

    assert problems(None) == problems("https://later.example/") == {}
    assert problems("http://hooks.example/") == {"webhook_url": ["The URL must begin with https://."]}
    assert "private" in problems("https://hooks.example/")["webhook_url"][0]
