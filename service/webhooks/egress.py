"""Guarded requests to URLs chosen by clients (SSRF protection): a POST that goes to exactly the address that was checked.

The host is resolved once per attempt, all of its addresses are checked, and the connection is made to one of those addresses, so
DNS rebinding has no effect. The Host header, the server name of the TLS handshake, and the name that the certificate must match
stay those of the URL. Proxies from the environment are not used.
"""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network

import httpx

from upres.engine.core.errors import SettingsError, UpresError
from upres.engine.core.text import number

from .ip_classes import Address, Kind, Network, kind, unwrapped

USER_AGENT = "DeAPI-Webhook/1.0"  # accepted by receivers of the hosted API's webhooks
MOST_CHARACTERS = 2048  # of a URL
MOST_ADDRESSES = 3  # of one host, tried in turn
CONNECT_SECONDS = 4.0
ATTEMPT_SECONDS = 10.0
PRIVATE = frozenset({Kind.LOOPBACK, Kind.PRIVATE, Kind.SHARED})

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


class RefusedError(UpresError):
    """Raised when a URL may not be called: malformed, not https, or its host has an address that is not public."""


class UnreachableError(UpresError):
    """Raised when an allowed URL did not respond: unknown host, no connection, an invalid certificate, or a timeout."""


class Resolver:
    """The system's resolver in dedicated threads, so that a slow name server does not block other work."""

    def __init__(self, threads: int = 32) -> None:
        self._threads = ThreadPoolExecutor(threads, "resolve")

    async def __call__(self, host: str, port: int) -> list[str]:
        """Return all addresses of a host. Raises OSError if it has none."""
        loop = asyncio.get_running_loop()
        addresses = await loop.run_in_executor(self._threads, _look_up, host, port)
        return list(dict.fromkeys(addresses))

    def close(self) -> None:
        """Stop the threads and cancel pending look-ups."""
        self._threads.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True, slots=True)
class Allowed:
    """What the operator permits in addition to https to public addresses.

    http: plain HTTP. hosts: names whose addresses may be private or loopback. networks: networks whose addresses may always be
    called. Cloud metadata addresses never may.
    """

    http: bool = False
    hosts: frozenset[str] = frozenset()
    networks: tuple[Network, ...] = ()

    @classmethod
    def parse(cls, http: bool, names: Iterable[str]) -> "Allowed":
        """Parse settings: host names, addresses and networks (`10.1.0.0/16`). Raises SettingsError naming an invalid one."""
        hosts, networks = set(), []
        for name in names:
            try:
                networks.append(ip_network(name))
            except ValueError as error:
                if "/" in name or ":" in name or not name.strip("0123456789."):
                    expected = "a host name, an address, or a network such as 10.1.0.0/16"
                    raise SettingsError(f"{name!r} is not a host or network ({error}); expected {expected}") from error
                hosts.add(name.lower().rstrip("."))
        return cls(http, frozenset(hosts), tuple(networks))

    def permits(self, host: str, address: Address) -> bool:
        """Report whether this address of this host may be called."""
        address_kind = kind(address)
        if address_kind is Kind.PUBLIC or (address_kind in PRIVATE and host.lower().rstrip(".") in self.hosts):
            return True
        return address_kind is not Kind.METADATA and any(unwrapped(address) in network for network in self.networks)


@dataclass(frozen=True, slots=True)
class Egress:
    """Guarded sender of POST requests. tls: context for checking certificates. seconds: timeout of an attempt with resolving."""

    resolve: Resolve
    allowed: Allowed = field(default_factory=Allowed)
    tls: ssl.SSLContext = field(default_factory=httpx.create_ssl_context)
    seconds: float = ATTEMPT_SECONDS

    def parse(self, text: str) -> httpx.URL:
        """Parse and check a URL without resolving its host. Raises RefusedError naming the problem."""
        if len(text) > MOST_CHARACTERS:
            raise RefusedError(f"The URL must not be longer than {MOST_CHARACTERS} characters.")
        try:
            url = httpx.URL(text)
            host = url.host  # an internationalized name is decoded only here
        except (httpx.InvalidURL, ValueError) as error:
            raise RefusedError(f"The URL is malformed: {str(error).rstrip('.')}.") from error
        if url.scheme != "https" and not (url.scheme == "http" and self.allowed.http):
            raise RefusedError(f"The URL must begin with https://{' or http://' if self.allowed.http else ''}.")
        if not host or not 0 < _port(url) < 65536:
            raise RefusedError("The URL must have a host, and a port between 1 and 65535 if any.")
        return url

    async def addresses(self, url: httpx.URL) -> list[Address]:
        """Resolve a URL's host. Raises RefusedError if any address may not be called, UnreachableError if there is none."""
        host = url.raw_host.decode()
        try:
            async with asyncio.timeout(self.seconds):
                texts = await self.resolve(host, _port(url))
        except (OSError, UnicodeError) as error:  # TimeoutError among them
            raise UnreachableError(f"the host {host} cannot be resolved ({error or type(error).__name__})") from error
        addresses = [ip_address(text) for text in texts]
        for address in addresses:
            if not self.allowed.permits(host, address):
                raise RefusedError(f"The host {host} has a {kind(address)} address; it must have public ones only.")
        if not addresses:
            raise UnreachableError(f"the host {host} has no address")
        return addresses

    async def post(self, text: str, headers: Mapping[str, str], body: bytes) -> int:
        """Send a POST once; return the response's status. Redirects are not followed, and the response's body is not read.

        Raises RefusedError, UnreachableError.
        """
        try:
            async with asyncio.timeout(self.seconds):
                url = self.parse(text)
                return await self._post(url, await self.addresses(url), headers, body)
        except TimeoutError as error:
            raise UnreachableError(f"no response within {number(self.seconds)} s") from error

    async def _post(self, url: httpx.URL, addresses: list[Address], headers: Mapping[str, str], body: bytes) -> int:
        """Send to the first address that accepts a connection: after a failed connection nothing has been sent yet."""
        failure: httpx.HTTPError | None = None
        timeout = httpx.Timeout(self.seconds, connect=min(self.seconds, CONNECT_SECONDS))
        for address in addresses[:MOST_ADDRESSES]:
            try:
                # A new client each time: a pooled connection might be reused for another host at the same address.
                async with httpx.AsyncClient(verify=self.tls, trust_env=False, timeout=timeout) as client:
                    request = client.build_request(
                        "POST",
                        url.copy_with(host=str(address)),
                        headers={"User-Agent": USER_AGENT, **headers, "Host": url.netloc.decode()},
                        content=body,
                        extensions={"sni_hostname": url.raw_host.decode()},
                    )
                    response = await client.send(request, stream=True, follow_redirects=False)
                    await response.aclose()
                    return response.status_code
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                failure = error
            except httpx.HTTPError as error:
                raise _unreachable(error) from error
        raise _unreachable(failure) from failure


def _unreachable(error: httpx.HTTPError | None) -> UnreachableError:
    return UnreachableError(f"no response ({str(error) or type(error).__name__})")


def _port(url: httpx.URL) -> int:
    return (443 if url.scheme == "https" else 80) if url.port is None else url.port


def _look_up(host: str, port: int) -> list[str]:
    return [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
