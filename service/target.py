"""Where a webhook may go: an address that is anybody's, checked after the name was resolved, and then connected to as checked."""

import asyncio
import socket
from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from urllib.parse import urlsplit

from upres.engine.errors import UpresError


class ForbiddenError(UpresError):
    """Raised when a webhook's URL may not be called from here."""


@dataclass(frozen=True, slots=True)
class Pinned:
    """A URL with the name replaced by an address that was checked. host, name: what to ask it for, in Host and in TLS."""

    url: str
    host: str
    name: str


@dataclass(frozen=True, slots=True)
class Rules:
    """http: whether the clear is allowed. hosts: names and addresses that are allowed although they are private."""

    http: bool = False
    hosts: Collection[str] = ()

    async def pin(self, url: str) -> Pinned:
        """Resolve and check; ForbiddenError where the scheme or any address of the name is not allowed."""
        parts = urlsplit(url)
        host = parts.hostname or ""
        if parts.scheme not in (("http", "https") if self.http else ("https",)) or not host:
            raise ForbiddenError("webhooks go to https only")
        port = parts.port or (443 if parts.scheme == "https" else 80)
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise ForbiddenError(f"the name {host} cannot be resolved") from error
        addresses = [str(entry[4][0]) for entry in found]
        if host not in self.hosts and not all(public(address) for address in addresses):
            raise ForbiddenError(f"{host} is not a public address")
        address = f"[{addresses[0]}]" if ":" in addresses[0] else addresses[0]
        return Pinned(parts._replace(netloc=f"{address}:{port}").geturl(), parts.netloc.rpartition("@")[2], host)


def public(text: str) -> bool:
    """Whether an address is routed on the internet: not loopback, private, link-local, multicast, nor one of those mapped."""
    address = ip_address(text.partition("%")[0])
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
        if inner is not None:
            return public(str(inner))
    return address.is_global and not address.is_multicast
