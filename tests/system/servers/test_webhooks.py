"""Webhooks of a real server process: a job is submitted over HTTP, and a real receiver is notified of its changes."""

import hashlib
import hmac

import httpx
import pytest
from receiver import receiving
from serving import KEY, ServerProcess

HEADERS = {"Authorization": f"Bearer {KEY}"}
SECRET = "s" * 32


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Return a server that sends webhooks to this machine, without TLS."""
    state = tmp_path_factory.mktemp("server") / "state"
    with ServerProcess(state, webhook_http=True, webhook_hosts=["127.0.0.1"]) as process:
        yield process


@pytest.fixture
def receiver():
    with receiving() as server:
        yield server


def submit(base, path, **data):
    with path.open("rb") as file:
        files = {"video": ("a.mp4", file, "video/mp4")}
        fields = {"model": "RealESRGAN_Vid_x2", **data}
        return httpx.post(f"{base}/api/v2/videos/upscales", headers=HEADERS, files=files, data=fields, timeout=60)


@pytest.mark.parametrize("secret", [SECRET, f" {SECRET} "], ids=["plain", "spaced"])
def test_a_job_is_told_of_in_order_and_its_result_can_be_read_without_a_key(server, receiver, clip, secret):
    url = receiver.url(host="127.0.0.1")
    answer = submit(server.base, clip("a.mp4", 1), webhook_url=url, webhook_secret=secret)
    assert answer.status_code == 200, answer.text
    bodies = receiver.bodies(2)
    assert [one["event"] for one in bodies] == ["job.processing", "job.completed"]
    assert {one["data"]["job_request_id"] for one in bodies} == {answer.json()["data"]["request_id"]}
    for _, headers, body in receiver.received:
        signed = headers["X-DeAPI-Timestamp"].encode() + b"." + body
        expected = "sha256=" + hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()
        assert headers["X-DeAPI-Signature"] == expected
        assert headers["User-Agent"] == "DeAPI-Webhook/1.0"
    result = httpx.get(bodies[1]["data"]["result_url"], timeout=60)
    assert (result.status_code, result.headers["content-type"]) == (200, "video/mp4")


def test_a_webhook_to_an_address_of_this_network_is_refused_at_once(clip, tmp_path):
    with ServerProcess(tmp_path / "state") as server:
        answer = submit(server.base, clip("a.mp4", 1), webhook_url="https://127.0.0.1/hook")
    assert answer.status_code == 422
    assert list(answer.json()["errors"]) == ["webhook_url"]


def test_webhooks_are_counted_for_the_operator(receiver, clip, tmp_path):
    receiver.hold.clear()
    with ServerProcess(tmp_path / "state", webhook_http=True, webhook_hosts=["127.0.0.1"]) as server:
        assert submit(server.base, clip("a.mp4", 1), webhook_url=receiver.url("127.0.0.1")).status_code == 200
        receiver.bodies(1)
        metrics = httpx.get(f"{server.base}/metrics").text.splitlines()
    assert 'upres_webhooks{stage="sending"} 1.0' in metrics and 'upres_webhooks{stage="failed"} 0.0' in metrics
