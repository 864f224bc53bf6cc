"""Calls to URLs that strangers chose: which may be called, and a POST that goes to the very address that was checked.

The host is resolved once an attempt, every address it has is checked, and the connection is made to one of those addresses,
so that a name that answers differently a moment later changes nothing. The Host header, the name sent in the TLS handshake
and the name the certificate must carry stay those of the URL. Proxies from the environment are not used.
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

USER_AGENT = "DeAPI-Webhook/1.0"  # what receivers of the hosted API let in
MOST_CHARACTERS = 2048  # of a URL
MOST_ADDRESSES = 3  # of one host, tried in turn
CONNECT_SECONDS = 4.0
ATTEMPT_SECONDS = 10.0
PRIVATE = frozenset({Kind.LOOPBACK, Kind.PRIVATE, Kind.SHARED})

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


class RefusedError(UpresError):
    """Raised when a URL may not be called: malformed, not https, or its host has an address that is not public."""


class UnreachableError(UpresError):
    """Raised when a URL that may be called gave no answer: no such host, no connection, a bad certificate, too slow."""


class Resolver:
    """The system's resolver, in threads of its own: a slow name server takes none from anything else."""

    def __init__(self, threads: int = 32) -> None:
        self._threads = ThreadPoolExecutor(threads, "resolve")

    async def __call__(self, host: str, port: int) -> list[str]:
        """Every address of a host; OSError where it has none."""
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._threads, _look_up, host, port)
        return list(dict.fromkeys(found))

    def close(self) -> None:
        """Take no more names."""
        self._threads.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True, slots=True)
class Allowed:
    """What the operator permits beyond https to public addresses. hosts: names whose addresses may be private or loopback.

    networks: whose addresses may be called whatever they are. Cloud metadata addresses never may.
    """

    http: bool = False
    hosts: frozenset[str] = frozenset()
    networks: tuple[Network, ...] = ()

    @classmethod
    def parse(cls, http: bool, names: Iterable[str]) -> "Allowed":
        """From settings: host names, addresses and networks (`10.1.0.0/16`); SettingsError names the one that is neither."""
        hosts, networks = set(), []
        for name in names:
            try:
                networks.append(ip_network(name))
            except ValueError as error:
                if "/" in name or ":" in name or not name.strip("0123456789."):
                    wanted = "a host name, an address, or a network such as 10.1.0.0/16"
                    raise SettingsError(f"{name!r} is no host or network to allow ({error}); name {wanted}") from error
                hosts.add(name.lower().rstrip("."))
        return cls(http, frozenset(hosts), tuple(networks))

    def permits(self, host: str, address: Address) -> bool:
        """Whether this address of this host may be called."""
        found = kind(address)
        if found is Kind.PUBLIC or (found in PRIVATE and host.lower().rstrip(".") in self.hosts):
            return True
        return found is not Kind.METADATA and any(unwrapped(address) in network for network in self.networks)


@dataclass(frozen=True, slots=True)
class Egress:
    """The way out. tls: what certificates are checked against. seconds: the longest an attempt takes, resolving included."""

    resolve: Resolve
    allowed: Allowed = field(default_factory=Allowed)
    tls: ssl.SSLContext = field(default_factory=httpx.create_ssl_context)
    seconds: float = ATTEMPT_SECONDS

    def parse(self, text: str) -> httpx.URL:
        """Parse a URL that may be called as far as is known without resolving its host; RefusedError says what is wrong."""
        if len(text) > MOST_CHARACTERS:
            raise RefusedError(f"The URL must not be longer than {MOST_CHARACTERS} characters.")
        try:
            url = httpx.URL(text)
            host = url.host  # an internationalised name is only decoded here
        except (httpx.InvalidURL, ValueError) as error:
            raise RefusedError(f"The URL is malformed: {str(error).rstrip('.')}.") from error
        if url.scheme != "https" and not (url.scheme == "http" and self.allowed.http):
            raise RefusedError(f"The URL must begin with https://{' or http://' if self.allowed.http else ''}.")
        if not host or not 0 < _port(url) < 65536:
            raise RefusedError("The URL must have a host, and a port between 1 and 65535 if any.")
        return url

    async def addresses(self, url: httpx.URL) -> list[Address]:
        """Where a URL's host lies; RefusedError where one of its addresses may not be called, UnreachableError for none."""
        host = url.raw_host.decode()
        try:
            async with asyncio.timeout(self.seconds):
                texts = await self.resolve(host, _port(url))
        except (OSError, UnicodeError) as error:  # TimeoutError among them
            raise UnreachableError(f"the host {host} cannot be resolved ({error or type(error).__name__})") from error
        found = [ip_address(text) for text in texts]
        for address in found:
            if not self.allowed.permits(host, address):
                raise RefusedError(f"The host {host} has a {kind(address)} address; it must have public ones only.")
        if not found:
            raise UnreachableError(f"the host {host} has no address")
        return found

    async def post(self, text: str, headers: Mapping[str, str], body: bytes) -> int:
        """Send these bytes once; the status that was answered, a redirect too. The answer's body is not read.

        Raises RefusedError, UnreachableError.
        """
        try:
            async with asyncio.timeout(self.seconds):
                url = self.parse(text)
                return await self._post(url, await self.addresses(url), headers, body)
        except TimeoutError as error:
            raise UnreachableError(f"no answer within {number(self.seconds)} s") from error

    async def _post(self, url: httpx.URL, addresses: list[Address], headers: Mapping[str, str], body: bytes) -> int:
        """Only a connection that could not be made is tried at the next address: by then nothing has been sent."""
        failure: httpx.HTTPError | None = None
        timeout = httpx.Timeout(self.seconds, connect=min(self.seconds, CONNECT_SECONDS))
        for address in addresses[:MOST_ADDRESSES]:
            try:
                # A client each: a connection kept open would be taken for another host at the same address.
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
    return UnreachableError(f"no answer ({str(error) or type(error).__name__})")


def _port(url: httpx.URL) -> int:
    return (443 if url.scheme == "https" else 80) if url.port is None else url.port


def _look_up(host: str, port: int) -> list[str]:
    return [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
