"""Other servers as one sees them: where each is reached, and what is under way there. One that stands by follows one of them."""

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
from upres.service.server.connections import most_connections
from upres.service.server.grpc_server import CONNECTION
from upres.service.storage.lease import Holder

CONNECT_SECONDS = 5.0
END_SECONDS = 2.0  # for calls that were ended to leave their channel
LOOK_SECONDS = 0.01
CHANNEL = (
    *CONNECTION,
    (
        "grpc.http2.bdp_probe",
        0,
    ),  # as for a client's live calls: what is passed on is not received far ahead of its reader
    ("grpc.http2.lookahead_bytes", 512 << 10),
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 0),  # the caller's business
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2000),
)

NOBODY = "no server works yet; one takes over within seconds, try again then"
TURN = "this server starts to work; try again in some seconds"
OLDER = "the server that works is of an older version, for which no other one can stand in; reach it by itself"
LOST = "the server that worked on this has gone; another one takes over within seconds, try again then"
UNREACHABLE = "the server that works on this cannot be reached; another one takes over within seconds if it is gone, try again then"
LOOP = "the server that works is not ready yet; try again in some seconds"  # or another one stands by for this one
MANY = "this server passes on as much as it can; try again in some seconds"


logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Trust:
    """Whose certificates are believed, where servers speak TLS to each other."""

    context: ssl.SSLContext
    credentials: grpc.ChannelCredentials

    @classmethod
    def read(cls, authority: Path | None) -> Self:
        """Read the certificate of an authority; None is any public one. SettingsError where it cannot be read."""
        try:
            context = ssl.create_default_context(cafile=authority)
            return cls(context, grpc.ssl_channel_credentials(authority.read_bytes() if authority else None))
        except OSError as error:  # ssl's errors are of these, too
            raise SettingsError(f"peer_ca: {authority} is no PEM of an authority that can be read ({error})") from error


class Peer:
    """Another server that works, for as long as it does. id: of its lease. Raises ValueError where its addresses are none."""

    def __init__(self, holder: Holder, trust: Trust) -> None:
        url = urlsplit(holder.http or "")
        if not url.hostname or not url.port or not holder.grpc:
            raise ValueError(f"{holder} names no address")
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
        """Enter this while something is passed on to it. UnavailableError where that is too much, or it has gone by then."""
        if len(self.under_way) >= most_connections() // 2:  # HTTP takes two of these for one
            raise UnavailableError(MANY)
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
        """End all that is under way."""
        for limit in self.under_way:
            limit.reschedule(0)
        with suppress(TimeoutError):
            async with asyncio.timeout(END_SECONDS):
                while self.under_way:
                    await asyncio.sleep(LOOK_SECONDS)
        await self.channel.close()


class Working:
    """Which server works now. own: the URL of this one, which a lease still names after a restart. trust: in the others."""

    def __init__(self, own: str, trust: Trust) -> None:
        self._own = own
        self._trust = trust
        self._peer: Peer | None = None
        self._why = NOBODY

    async def follow(self, holder: Holder) -> None:
        """Pass on to this one from now on, and end what is under way to the one before it."""
        if self._peer is not None and self._peer.id == holder.id:
            return
        await self.lose(LOST if holder.http == self._own else OLDER)
        if holder.http != self._own:
            try:
                self._peer = Peer(holder, self._trust)
            except ValueError as error:
                logger.warning("nothing is passed on: %s", error)

    async def lose(self, why: str) -> None:
        """End what is under way, and answer everything with why until there is another one."""
        peer, self._peer, self._why = self._peer, None, why
        if peer is not None:
            await peer.end()

    @asynccontextmanager
    async def forwarding(self) -> AsyncGenerator[Peer]:
        """Enter this while something is passed on. UnavailableError where nobody works, or the one that did no longer does."""
        if self._peer is None:
            raise UnavailableError(self._why)
        async with self._peer.forwarding() as peer:
            yield peer


class Peers:
    """The other servers that work, each from when it is first asked for something. own, trust: as of Working."""

    def __init__(self, own: str, trust: Trust) -> None:
        self._own = own
        self._trust = trust
        self._peers: dict[str, Peer] = {}

    def of(self, holder: Holder) -> Peer:
        """Give where a server is reached. Raises UnavailableError where that is not known, or it was this one before a restart."""
        if holder.http == self._own:
            raise UnavailableError(LOST)
        if holder.id not in self._peers:
            try:
                self._peers[holder.id] = Peer(holder, self._trust)
            except ValueError as error:
                logger.warning("nothing is passed on: %s", error)
                raise UnavailableError(UNREACHABLE) from error
        return self._peers[holder.id]

    async def keep(self, working: Collection[str]) -> None:
        """End what is under way at servers that do not work any more."""
        for gone in self._peers.keys() - set(working):
            await self._peers.pop(gone).end()
