"""Waits between tries to reach a server, and the point where a client stops trying."""

import asyncio
import logging
import time
from dataclasses import dataclass

import grpc

from .errors import RemoteError

LOST = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.UNKNOWN})
CORE = "Internal error from Core"  # grpc.aio, where the connection is lost while a request is being sent
REFUSED = "Connection refused"
KEYS = "the server knows no such key; where it runs, `upres keys list` names those in use and `upres keys add NAME` makes one"
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.2, 5.0
FIRST_CONTACT_SECONDS = 10.0

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Server:
    """Where calls go. patience: seconds that it may be unreachable. reached: whether it has ever answered."""

    target: str
    patience: float
    reached: bool = False


@dataclass(slots=True)
class Retry:
    """The tries of one call. Time counts from the last answer; a live source is not retried."""

    server: Server
    live: bool = False
    wait: float = FIRST_WAIT_SECONDS
    since: float | None = None

    def reset(self) -> None:
        """Start counting again after an answer."""
        self.server.reached = True
        self.wait, self.since = FIRST_WAIT_SECONDS, None

    async def after(self, error: grpc.aio.AioRpcError) -> None:
        """Wait before the next try; raises RemoteError where the server refused the call or was away for too long."""
        if error.code() not in LOST and error.details() != CORE:
            details = KEYS if error.code() is grpc.StatusCode.UNAUTHENTICATED else error.details()
            raise RemoteError(f"{details} ({error.code().name})", error.code()) from error
        server, now = self.server, time.monotonic()
        first, self.since = self.since is None, self.since or now
        seconds = server.patience if server.reached else min(server.patience, FIRST_CONTACT_SECONDS)
        away, remedy = self._absence(error.details() or "")
        if self.live or now - self.since > seconds:
            raise RemoteError(f"{away}; {remedy}") from error
        if first:
            logger.warning("%s; retrying for %.0f s", away, seconds)
        await asyncio.sleep(self.wait)
        self.wait = min(2 * self.wait, LONGEST_WAIT_SECONDS)

    def _absence(self, details: str) -> tuple[str, str]:
        """Say that a server is not there, and what can be done about it. details: in the words of gRPC."""
        target = self.server.target
        if not self.server.reached and REFUSED in details:
            return f"no server at {target}", "start one with `upres serve`, or name the port of its gRPC with --server"
        return (
            f"the server at {target} cannot be reached ({details})",
            "is it running, and is this the port of its gRPC?",
        )
