"""The messages about a server that does not respond."""

import asyncio
from types import SimpleNamespace

import grpc
import pytest

from upres.service.client import retry as retry_module
from upres.service.client.errors import RemoteError
from upres.service.client.retry import Retry, Server

REFUSED = "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:9: Connection refused"

HTTP1 = "last error: UNIMPLEMENTED: ipv4:127.0.0.1:9: Failed parsing HTTP/2 (Trying to connect an http1.x server (HTTP status 404))"
UNTRUSTED = (
    "last error: UNKNOWN: ipv4:127.0.0.1:9: Tls handshake failed: CERTIFICATE_VERIFY_FAILED: self signed certificate"
)


@pytest.mark.parametrize(
    ("reached", "details", "words"),
    [
        (False, REFUSED, "no server at 127.0.0.1:9; start one with `upres serve`, or set the port of its gRPC endpoint"),
        (False, HTTP1, "the server at 127.0.0.1:9 answers HTTP/1.1, not gRPC; set the port"),
        (False, UNTRUSTED, "the server at 127.0.0.1:9 has a certificate that is not trusted; name the certificate of its"),
        (False, "Socket closed", "the server at 127.0.0.1:9 cannot be reached (Socket closed); if it uses TLS, add --tls, or --ca"),
        (True, REFUSED, "the server at 127.0.0.1:9 cannot be reached"),
        (False, "DNS resolution failed", "the server at 127.0.0.1:9 cannot be reached (DNS resolution failed); is it running"),
    ],
)  # fmt: skip
def test_a_server_that_is_not_there_is_said_with_what_to_do(reached, details, words):
    empty = grpc.aio.Metadata()
    error = grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, empty, empty, details)
    retry = Retry(Server("127.0.0.1:9", 60.0, reached), live=True)
    with pytest.raises(RemoteError) as refused:
        asyncio.run(retry.after(error))
    assert str(refused.value).startswith(words)


def test_the_first_error_is_reported_even_if_another_address_of_the_host_refuses_later(monkeypatch):
    empty = grpc.aio.Metadata()
    ticks = iter([1.0, 100.0])
    monkeypatch.setattr(retry_module, "time", SimpleNamespace(monotonic=lambda: next(ticks)))
    retry = Retry(Server("localhost:9", 60.0))
    asyncio.run(retry.after(grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, empty, empty, "Socket closed")))
    with pytest.raises(RemoteError, match=r"cannot be reached \(Socket closed\).*--tls"):
        asyncio.run(retry.after(grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, empty, empty, REFUSED)))
