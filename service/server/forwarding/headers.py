"""What of a request's and a response's headers is passed on, and what is added: who asked, and how."""

from collections.abc import Iterable

from starlette.datastructures import Headers
from starlette.types import Scope

from upres.service.server.forwarded import PEER

Pairs = list[tuple[bytes, bytes]]

HOP = frozenset({
    b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection", b"te", b"trailer",
    b"transfer-encoding", b"upgrade",
})  # fmt: skip
FRAMING = frozenset({b"content-length", b"host"})  # of a request: not for a sender to take away
SAID = frozenset({
    b"forwarded", b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-forwarded-port", PEER.encode(),
})  # fmt: skip


def end_to_end(headers: Iterable[tuple[bytes, bytes]]) -> Pairs:
    """Leave out what is of one connection alone: what HTTP names, and what the sender names."""
    pairs = [(name.lower(), value) for name, value in headers]
    named = {token.strip().lower() for name, value in pairs if name == b"connection" for token in value.split(b",")}
    return [(name, value) for name, value in pairs if name not in HOP and name not in named - FRAMING]


def introduced(scope: Scope, secret: str) -> Pairs:
    """Give a request's headers as they are passed on, with what `forwarded` takes from a server that knows the secret."""
    kept = [(name, value) for name, value in end_to_end(scope["headers"]) if name not in SAID]
    said = {
        PEER: secret,
        "x-forwarded-proto": scope["scheme"],
        "x-forwarded-host": Headers(scope=scope).get("host", ""),
    }
    if scope.get("client"):
        said["x-forwarded-for"] = scope["client"][0]
    return kept + [(name.encode(), value.encode("latin-1")) for name, value in said.items() if value]
