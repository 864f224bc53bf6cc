"""Connections to other servers: their addresses and forwarded requests. A standby server follows the active one."""

import asyncio
import logging
import ssl
from collections.abc import AsyncGenerator, Collection
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import grpc

from upres.engine.core.errors import SettingsError
from upres.service.domain.errors import UnavailableError
from upres.service.server.connections import max_connections
from upres.service.server.grpc_server import CONNECTION
from upres.service.storage.lease import Holder

CONNECT_SECONDS = 5.0
END_SECONDS = 2.0  # for cancelled calls to leave their channel
LOOK_SECONDS = 0.01
CHANNEL = (
    *CONNECTION,
    # As for a client's live calls: messages are not received far ahead of their reader.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 512 << 10),
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 0),  # left to the caller
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2000),
)

NO_SERVER = "no server is active yet; one takes over within seconds, try again then"
TURN = "this server is about to become active; try again in a few seconds"
OLDER_VERSION = (
    "the active server has an older version, to which this one cannot forward requests; connect to it directly"
)
LOST = "the server that handled this is gone; another one takes over within seconds, try again then"
UNREACHABLE = "the server that handles this cannot be reached; if it is gone, another one takes over within seconds, try again then"
LOOP = "the active server is not ready yet; try again in a few seconds"  # or another one stands by for this one
TOO_MANY = "this server already forwards the maximum number of requests; try again in a few seconds"


logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Trust:
    """The trusted certificates for TLS between servers."""

    context: ssl.SSLContext
    credentials: grpc.ChannelCredentials

    @classmethod
    def read(cls, authority: Path | None) -> Self:
        """Read the certificate of an authority; None trusts the public ones. SettingsError if it cannot be read."""
        try:
            context = ssl.create_default_context(cafile=authority)
            return cls(context, grpc.ssl_channel_credentials(authority.read_bytes() if authority else None))
        except OSError as error:  # includes ssl's errors
            raise SettingsError(
                f"peer_ca: {authority} is not a readable PEM file of a certificate authority ({error})"
            ) from error


class Peer:
    """Another active server. id: of its lease. Raises ValueError if its addresses are invalid."""

    def __init__(self, holder: Holder, trust: Trust) -> None:
        url = urlsplit(holder.http or "")
        if not url.hostname or not url.port or not holder.grpc:
            raise ValueError(f"{holder} has no address")
        self.id = holder.id
        self.host, self.port, self.netloc = url.hostname, url.port, url.netloc
        self.tls = trust.context if url.scheme == "https" else None
        if self.tls is None:
            self.channel = grpc.aio.insecure_channel(holder.grpc, CHANNEL)
        else:
            self.channel = grpc.aio.secure_channel(holder.grpc, trust.credentials, CHANNEL)
        self.under_way: set[asyncio.Timeout] = set()

    @asynccontextmanager
    async def forwarding(self) -> AsyncGenerator["Peer"]:
        """Context of one forwarded request. Raises UnavailableError if there are too many, or once the server is gone."""
        if len(self.under_way) >= max_connections() // 2:  # forwarding over HTTP uses two connections
            raise UnavailableError(TOO_MANY)
        try:
            async with asyncio.timeout(None) as limit:
                self.under_way.add(limit)
                try:
                    yield self
                finally:
                    self.under_way.discard(limit)
        except TimeoutError as error:
            raise UnavailableError(LOST if limit.expired() else UNREACHABLE) from error

    async def end(self) -> None:
        """End all forwarded requests."""
        for limit in self.under_way:
            limit.reschedule(0)
        with suppress(TimeoutError):
            async with asyncio.timeout(END_SECONDS):
                while self.under_way:
                    await asyncio.sleep(LOOK_SECONDS)
        await self.channel.close()


class ActiveServer:
    """The server that is active now. own: this server's URL, which a lease may still name after a restart. trust: certificates."""

    def __init__(self, own: str, trust: Trust) -> None:
        self._own = own
        self._trust = trust
        self._peer: Peer | None = None
        self._reason = NO_SERVER

    async def follow(self, holder: Holder) -> None:
        """Forward to this server from now on, and end the requests forwarded to the previous one."""
        if self._peer is not None and self._peer.id == holder.id:
            return
        await self.lose(LOST if holder.http == self._own else OLDER_VERSION)
        if holder.http != self._own:
            try:
                self._peer = Peer(holder, self._trust)
            except ValueError as error:
                logger.warning("cannot forward requests: %s", error)

    async def lose(self, why: str) -> None:
        """End the forwarded requests, and reject all further ones with this reason until `follow`."""
        peer, self._peer, self._reason = self._peer, None, why
        if peer is not None:
            await peer.end()

    @asynccontextmanager
    async def forwarding(self) -> AsyncGenerator[Peer]:
        """Context of one forwarded request. Raises UnavailableError if no server is active, or once it is no longer active."""
        if self._peer is None:
            raise UnavailableError(self._reason)
        async with self._peer.forwarding() as peer:
            yield peer


class Peers:
    """The other active servers, each connected on first use. own, trust: as in ActiveServer."""

    def __init__(self, own: str, trust: Trust) -> None:
        self._own = own
        self._trust = trust
        self._peers: dict[str, Peer] = {}

    def of(self, holder: Holder) -> Peer:
        """Return the connection to a server. Raises UnavailableError if its address is unknown or was this server's."""
        if holder.http == self._own:
            raise UnavailableError(LOST)
        if holder.id not in self._peers:
            try:
                self._peers[holder.id] = Peer(holder, self._trust)
            except ValueError as error:
                logger.warning("cannot forward requests: %s", error)
                raise UnavailableError(UNREACHABLE) from error
        return self._peers[holder.id]

    async def keep(self, working: Collection[str]) -> None:
        """End the requests forwarded to servers that are no longer active."""
        for server in self._peers.keys() - set(working):
            await self._peers.pop(server).end()
