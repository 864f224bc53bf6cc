"""Headers of a trusted proxy about the original request: X-Forwarded-For, -Proto, -Host and -Port.

Those of other senders are ignored, because anyone can set them. A peer server is a proxy too; it is trusted, at any address,
because of the secret that all servers of a database share.
"""

import hmac
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from upres.engine.core.errors import SettingsError

PEER = "x-upres-peer"  # the header with the secret
SCHEMES = {"http": {"http", "https"}, "websocket": {"ws", "wss"}}
SECURE = {"http": "ws", "https": "wss"}

Network = IPv4Network | IPv6Network


def parse_networks(names: Iterable[str]) -> tuple[Network, ...]:
    """Parse addresses and networks (`10.0.0.0/8`); SettingsError names the first invalid one."""
    networks = []
    for name in names:
        try:
            networks.append(ip_network(name))
        except ValueError as error:
            raise SettingsError(
                f"{name!r} is not an address or network of a proxy ({error}); use one such as 10.0.0.0/8"
            ) from error
    return tuple(networks)


class Forwarded:
    """Replaces scheme, host and client of requests from a trusted proxy by the values in its headers.

    secret: shared by the servers of this database; None if this is the only one.
    """

    def __init__(self, app: ASGIApp, trusted: tuple[Network, ...], secret: str | None = None) -> None:
        self._app = app
        self._trusted = trusted
        self._secret = secret

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] in SCHEMES:
            headers = Headers(scope=scope)
            if self._knows(headers.get(PEER)):
                scope = _as_forwarded(scope, headers, lambda hop: False)
            elif self._trusts((scope.get("client") or ("",))[0]):
                scope = _as_forwarded(scope, headers, self._trusts)
        await self._app(scope, receive, send)

    def _knows(self, secret: str | None) -> bool:
        return None not in (secret, self._secret) and hmac.compare_digest(
            str(secret).encode(), str(self._secret).encode()
        )

    def _trusts(self, client: str) -> bool:
        try:
            address = ip_address(client)
        except ValueError:
            return False
        return any(address in network for network in self._trusted)


def _as_forwarded(scope: Scope, headers: Headers, trusts: Any) -> Scope:  # noqa: ANN401 - a bound method
    changed = dict(scope)
    proto = _first(headers, "x-forwarded-proto").lower()
    if scope["type"] == "websocket":
        proto = SECURE.get(proto, proto)
    if proto in SCHEMES[scope["type"]]:
        changed["scheme"] = proto
    if host := _first(headers, "x-forwarded-host"):
        port = _first(headers, "x-forwarded-port")
        if port and ":" not in host and port not in ("80", "443"):
            host = f"{host}:{port}"
        others = [(name, value) for name, value in scope["headers"] if name != b"host"]
        changed["headers"] = [(b"host", host.encode("latin-1")), *others]
    hops = [hop.strip() for hop in headers.get("x-forwarded-for", "").split(",") if hop.strip()]
    if sender := next((hop for hop in reversed(hops) if not trusts(hop)), None):
        changed["client"] = (sender, 0)
    return changed


def _first(headers: Headers, name: str) -> str:
    return headers.get(name, "").split(",")[0].strip()
