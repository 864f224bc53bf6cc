"""Uploads that stop, that their client leaves, or that the disk has no room for."""

import asyncio
import socket

import pytest
from serving import KEY, ServerProcess

from upres.service.api.http.middleware import Gate
from upres.service.auth.rate_limit import Quota
from upres.service.domain.errors import DiskFullError


def test_a_client_that_leaves_in_the_middle_of_its_upload_is_no_error(tmp_path):
    request = f"POST /api/v2/videos/upscales HTTP/1.1\r\nHost: upres\r\nAuthorization: Bearer {KEY}\r\n"
    body = "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 1000\r\n\r\n--x\r\n"
    with ServerProcess(tmp_path / "state", workers=0) as server:
        with socket.create_connection(("127.0.0.1", server.settings["http_port"])) as leaving:
            leaving.sendall((request + body).encode())
        assert server.stop() == 0
        assert [line for line in server.lines if line["level"] in ("ERROR", "CRITICAL")] == []


def test_an_upload_that_stops_is_not_waited_for(tmp_path):
    request = f"POST /api/v2/videos/upscales HTTP/1.1\r\nHost: upres\r\nAuthorization: Bearer {KEY}\r\n"
    body = "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 1000\r\n\r\n--x\r\n"
    with ServerProcess(tmp_path / "state", source_idle_seconds=0.2, workers=0) as server, socket.socket() as sending:
        sending.settimeout(60)
        sending.connect(("127.0.0.1", server.settings["http_port"]))
        sending.sendall((request + body).encode())
        answer = b"".join(iter(lambda: sending.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 408 ") and b"0.2 seconds" in answer


def begin(body):
    """The start of an upload. body: its headers, and a part of its content."""
    request = f"POST /api/v2/videos/upscales HTTP/1.1\r\nHost: upres\r\nAuthorization: Bearer {KEY}\r\n"
    return (request + "Content-Type: multipart/form-data; boundary=x\r\n").encode() + body


FILE = b'--x\r\nContent-Disposition: form-data; name="video"; filename="a.mp4"\r\n\r\n'


@pytest.mark.parametrize(
    "body",
    [
        b"Content-Length: 100000000\r\n\r\n",  # without any content
        b"Content-Length: 2000000\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n1000000\r\n" + FILE + bytes((1 << 20) + 65536),  # without an end
    ],
    ids=["larger than the contract takes", "announced", "without a length"],
)
def test_an_upload_that_the_disk_has_no_room_for_is_refused_before_it_has_come(tmp_path, body):
    with ServerProcess(tmp_path / "state", free_bytes=1 << 62, workers=0) as server, socket.socket() as sending:
        sending.settimeout(60)
        sending.connect(("127.0.0.1", server.settings["http_port"]))
        sending.sendall(begin(body))
        assert sending.recv(4096).startswith(b"HTTP/1.1 503 ")


def test_the_disk_is_looked_at_again_while_an_upload_comes(tmp_path):
    """There is room at the first check; another process then uses it."""
    looks = []

    def check_room(size):
        looks.append(size)
        if len(looks) > 2:
            raise DiskFullError("full")

    async def app(scope, receive, send):
        while (await receive())["more_body"]:
            pass

    async def receive():
        return {"type": "http.request", "body": bytes(1 << 20), "more_body": True}

    answers = []

    async def send(message):
        answers.append(message)

    gate = Gate(app, AnyKey(), Quota(9, 9), idle_seconds=60, largest=1 << 30, check_room=check_room)
    headers = [(b"authorization", b"Bearer key"), (b"content-length", b"500000000")]
    asyncio.run(gate({"type": "http", "method": "POST", "path": "/api/v2/x", "headers": headers}, receive, send))
    assert answers[0]["status"] == 503
    assert looks[0] == 1_000_000_000 and len(looks) == 3


class AnyKey:
    def owner(self, secret):
        return "alice"
