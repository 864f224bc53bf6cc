"""Forwarding of an HTTP request to a fake server that behaves as real ones rarely do."""

import asyncio
from contextlib import asynccontextmanager, suppress

import pytest

from upres.service.domain.errors import UnavailableError
from upres.service.server.forwarding import request as module
from upres.service.server.forwarding.peers import Peer, Trust
from upres.service.server.forwarding.request import forward_request
from upres.service.storage.lease import Holder

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nServer: x\r\nX-Own: y\r\nConnection: close, x-hop\r\nX-Hop: 1\r\n\r\nok"
LONGEST_SECONDS = 60


def scope(method="POST", *headers):
    headers_ = [(b"host", b"video.example"), *headers]
    client = ("203.0.113.9", 1)
    return {"type": "http", "method": method, "scheme": "https", "raw_path": b"/a%20b", "query_string": b"c=d",
            "headers": headers_, "client": client}  # fmt: skip


class Client:
    """A client: the messages it sends, and those it receives. After the last one it waits, or disconnects."""

    def __init__(self, *bodies, leaves=False):
        self.messages = [{"type": "http.request", "body": body, "more_body": True} for body in bodies]
        if self.messages and not leaves:
            self.messages[-1]["more_body"] = False
        self.leaves, self.receptions, self.received = leaves, 0, []

    async def receive(self):
        self.receptions += 1
        if self.messages:
            return self.messages.pop(0)
        if self.leaves:
            return {"type": "http.disconnect"}
        return await asyncio.Event().wait()

    async def send(self, message):
        self.received.append(message)

    @property
    def body(self):
        return b"".join(message.get("body", b"") for message in self.received)


@asynccontextmanager
async def upstream(serve):
    """A peer that serves each connection by a function of its reader and writer."""
    ended = asyncio.Event()

    async def served(reader, writer):
        try:
            await serve(reader, writer)
        finally:
            writer.close()
            ended.set()

    server = await asyncio.start_server(served, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    peer = Peer(Holder("id", "it", f"http://127.0.0.1:{port}", "127.0.0.1:1"), Trust.read(None))
    try:
        async with asyncio.timeout(LONGEST_SECONDS):
            yield peer, ended
    finally:
        await peer.end()
        server.close()


def passed(serve, client, request=None):
    async def scenario():
        async with upstream(serve) as (peer, ended):
            try:
                await forward_request(peer, "the secret", request or scope(), client.receive, client.send)
            finally:
                await ended.wait()

    asyncio.run(scenario())


def test_it_arrives_as_it_was_with_who_asked_and_without_what_a_stranger_says_of_that():
    heads = []

    async def serve(reader, writer):
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        assert await reader.readexactly(4) == b"body"
        writer.write(OK)

    client = Client(b"bo", b"dy")
    lies = (b"x-forwarded-for", b"10.0.0.1"), (b"forwarded", b"for=1"), (b"x-upres-peer", b"guess")
    hop = (b"connection", b"x-mine, content-length"), (b"x-mine", b"1"), (b"te", b"trailers")
    passed(serve, client, scope("POST", (b"content-length", b"4"), (b"range", b"bytes=1-"), *lies, *hop))
    first, *lines = heads[0].decode().split("\r\n")[:-2]
    assert first == "POST /a%20b?c=d HTTP/1.1"
    assert sorted(line.lower() for line in lines) == [
        "connection: close",
        "content-length: 4",
        "host: video.example",
        "range: bytes=1-",
        "x-forwarded-for: 203.0.113.9",
        "x-forwarded-host: video.example",
        "x-forwarded-proto: https",
        "x-upres-peer: the secret",
    ]
    assert client.received[0] == {
        "type": "http.response.start",
        "status": 200,
        "headers": [(b"content-length", b"2"), (b"x-own", b"y")],
    }
    assert client.body == b"ok" and client.received[-1]["more_body"] is False


def test_a_body_of_two_lengths_is_sent_with_one():
    """Chunked, as the accepting server has read it; otherwise the rest would be parsed as another request."""
    heads = []

    async def serve(reader, writer):
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        assert await reader.readuntil(b"0\r\n\r\n") == b"4\r\nbody\r\n0\r\n\r\n"
        writer.write(OK)

    passed(serve, Client(b"body"), scope("POST", (b"content-length", b"1"), (b"transfer-encoding", b"chunked")))
    assert b"content-length" not in heads[0].lower()


def test_a_body_is_asked_for_only_when_the_server_asks():
    async def refuse(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n")

    async def accept(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert await reader.readexactly(4) == b"body"
        writer.write(OK)

    expecting = scope("POST", (b"content-length", b"4"), (b"expect", b"100-continue"))
    refused, accepted = Client(b"body"), Client(b"body")
    passed(refuse, refused, expecting)
    assert refused.received[0]["status"] == 401 and refused.receptions == 0
    passed(accept, accepted, expecting)
    assert accepted.body == b"ok"


def test_an_answer_before_the_end_of_the_body_comes_at_once():
    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 No\r\nContent-Length: 0\r\n\r\n")

    client = Client(b"body")
    client.messages[-1]["more_body"] = True  # and nothing follows
    passed(serve, client, scope("POST", (b"content-length", b"400")))
    assert client.received[0]["status"] == 413


def test_a_client_that_goes_ends_what_it_asked_for():
    async def serve(reader, writer):
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await reader.readexactly(1 << 20)

    client = Client(b"body", leaves=True)
    passed(serve, client, scope("POST", (b"content-length", b"400")))
    assert client.received == []


async def nothing(reader, writer):
    await reader.readuntil(b"\r\n\r\n")


async def noise(reader, writer):
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"SSH-2.0-x\r\n\r\n")


async def silence(reader, writer):
    with suppress(ConnectionError):
        await reader.read()


@pytest.mark.parametrize("serve", [nothing, noise, silence])
def test_a_server_that_gives_no_answer_is_said_to_be_away(serve, monkeypatch):
    monkeypatch.setattr(module, "SILENT_SECONDS", 0.2)
    client = Client(b"")
    with pytest.raises(UnavailableError, match="cannot be reached"):
        passed(serve, client, scope("GET"))
    assert client.received == []


def test_a_response_that_breaks_off_is_not_ended_as_if_it_were_whole():
    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")

    client = Client(b"")
    passed(serve, client, scope("GET"))
    assert client.body == b"half" and all(message.get("more_body", True) for message in client.received)


def test_what_a_slow_client_does_not_take_is_not_read():
    """So that only buffers hold it in memory, regardless of its size."""
    sent = []

    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (1 << 30))
        with pytest.raises(ConnectionError):
            while True:
                writer.write(bytes(1 << 20))
                await writer.drain()
                sent.append(1)

    class Slow(Client):
        async def send(self, message):
            await super().send(message)
            if message["type"] == "http.response.body":
                await asyncio.Event().wait()

    async def scenario():
        client = Slow()
        async with upstream(serve) as (peer, ended):
            passing = asyncio.create_task(forward_request(peer, "s", scope("GET"), client.receive, client.send))
            while len(client.received) < 2:
                await asyncio.sleep(0.01)
            before = -1
            while before != len(sent):  # until the system's buffers are full
                before = len(sent)
                await asyncio.sleep(0.2)
            assert len(client.body) <= module.READ_BYTES
            passing.cancel()
            await ended.wait()

    asyncio.run(scenario())
    assert len(sent) < 1 << 9


def test_a_body_that_comes_slowly_is_no_silence_however_long_it_takes_in_all(monkeypatch):
    """Formerly, a response that had not started within the limit ended a running upload."""
    monkeypatch.setattr(module, "SILENT_SECONDS", 2)

    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(6)
        writer.write(OK)

    class Slow(Client):
        async def receive(self):
            await asyncio.sleep(0.5)
            return await super().receive()

    client = Slow(*[b"x"] * 6)
    passed(serve, client, scope("POST", (b"content-length", b"6")))
    assert client.body == b"ok"
