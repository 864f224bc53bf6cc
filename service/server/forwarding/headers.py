"""The headers of forwarded requests and responses, and the headers added about the original client."""

from collections.abc import Iterable

from starlette.datastructures import Headers
from starlette.types import Scope

from upres.service.server.forwarded import PEER

Pairs = list[tuple[bytes, bytes]]

HOP = frozenset({
    b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection", b"te", b"trailer",
    b"transfer-encoding", b"upgrade",
})  # fmt: skip
FRAMING = frozenset({b"content-length", b"host"})  # of a request: a Connection header must not remove them
FORWARDED = frozenset({
    b"forwarded", b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-forwarded-port", PEER.encode(),
})  # fmt: skip


def end_to_end(headers: Iterable[tuple[bytes, bytes]]) -> Pairs:
    """Drop hop-by-hop headers: those defined by HTTP, and those listed in Connection."""
    pairs = [(name.lower(), value) for name, value in headers]
    named = {token.strip().lower() for name, value in pairs if name == b"connection" for token in value.split(b",")}
    return [(name, value) for name, value in pairs if name not in HOP and name not in named - FRAMING]


def forwarded_headers(scope: Scope, secret: str) -> Pairs:
    """Return the headers of a forwarded request, including those that `forwarded` accepts from a peer with the secret."""
    kept = [(name, value) for name, value in end_to_end(scope["headers"]) if name not in FORWARDED]
    added = {
        PEER: secret,
        "x-forwarded-proto": scope["scheme"],
        "x-forwarded-host": Headers(scope=scope).get("host", ""),
    }
    if scope.get("client"):
        added["x-forwarded-for"] = scope["client"][0]
    return kept + [(name.encode(), value.encode("latin-1")) for name, value in added.items() if value]
