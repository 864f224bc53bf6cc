"""The messages about a server that does not respond."""

import asyncio

import grpc
import pytest

from upres.service.client.errors import RemoteError
from upres.service.client.retry import Retry, Server

REFUSED = "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:9: Connection refused"

HTTP1 = "last error: UNIMPLEMENTED: ipv4:127.0.0.1:9: Failed parsing HTTP/2 (Trying to connect an http1.x server (HTTP status 404))"


@pytest.mark.parametrize(
    ("reached", "details", "words"),
    [
        (False, REFUSED, "no server at 127.0.0.1:9; start one with `upres serve`, or set the port of its gRPC endpoint"),
        (False, HTTP1, "the server at 127.0.0.1:9 answers HTTP/1.1, not gRPC; set the port of its gRPC endpoint with --server"),
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
