"""Backoff between attempts to reach a server, and the decision to stop retrying."""

import asyncio
import logging
import time
from contextlib import suppress
from dataclasses import dataclass

import grpc
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from google.rpc.status_pb2 import Status

from .errors import RemoteError

LOST = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.UNKNOWN})
CORE = "Internal error from Core"  # raised by grpc.aio if the connection is lost while a request is being sent
REFUSED = "Connection refused"
DETAILS = "grpc-status-details-bin"  # the trailer with the details of an error
PERMANENT = {
    "http1.x server": "answers HTTP/1.1, not gRPC; set the port of its gRPC endpoint, which `upres serve` prints, with --server",
    "CERTIFICATE_VERIFY_FAILED": "has a certificate that is not trusted; name the certificate of its authority with --ca",
    "WRONG_VERSION_NUMBER": "does not use TLS; remove --tls and --ca",
}
"""Parts of gRPC's error text for a server that was never reached, and what they mean. A retry would not help."""
CLOSED = "Socket closed"  # what a server that uses TLS does with a connection that does not
KEYS = "the server does not know this key; on the server, `upres keys list` lists the keys and `upres keys add NAME` creates one"
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.2, 5.0
FIRST_CONTACT_SECONDS = 10.0

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Server:
    """The server of all calls. patience: seconds that it may be unreachable. reached: whether it has ever responded."""

    target: str
    patience: float
    reached: bool = False


@dataclass(slots=True)
class Retry:
    """Retry state of one call. The limit counts from the last response; calls with a live source are not retried."""

    server: Server
    live: bool = False
    wait: float = FIRST_WAIT_SECONDS
    since: float | None = None
    absence: tuple[str, str] = "", ""  # as first seen: later errors may name another of the host's addresses

    def reset(self) -> None:
        """Reset the backoff and the limit after a response."""
        self.server.reached = True
        self.wait, self.since = FIRST_WAIT_SECONDS, None

    async def after(self, error: grpc.aio.AioRpcError) -> None:
        """Wait before the next attempt; raises RemoteError if the server refused the call or was unreachable for too long."""
        if error.code() not in LOST and error.details() != CORE:
            details = KEYS if error.code() is grpc.StatusCode.UNAUTHENTICATED else error.details()
            reason, fields = _stated(error)
            message = f"{details} ({error.code().name})"
            raise RemoteError(message, error.code(), reason=reason, fields=fields) from error
        server, now = self.server, time.monotonic()
        details = error.details() or ""
        if problem := next((text for part, text in PERMANENT.items() if part in details and not server.reached), None):
            raise RemoteError(f"the server at {server.target} {problem}", error.code()) from error
        first, self.since = self.since is None, self.since or now
        seconds = server.patience if server.reached else min(server.patience, FIRST_CONTACT_SECONDS)
        self.absence = away, remedy = self._absence(details) if first else self.absence
        if self.live or now - self.since > seconds:
            raise RemoteError(f"{away}; {remedy}") from error
        if first and details != CORE:  # then the next attempt tells a refused call from a lost connection
            logger.warning("%s; retrying for %.0f s", away, seconds)
        await asyncio.sleep(self.wait)
        self.wait = min(2 * self.wait, LONGEST_WAIT_SECONDS)

    def _absence(self, details: str) -> tuple[str, str]:
        """Return the message for an unreachable server, and what to do about it. details: gRPC's error text."""
        target = self.server.target
        if not self.server.reached and REFUSED in details:
            return (
                f"no server at {target}",
                "start one with `upres serve`, or set the port of its gRPC endpoint with --server",
            )
        away = f"the server at {target} cannot be reached ({details})"
        if CLOSED in details and not self.server.reached:
            return away, "if it uses TLS, add --tls, or --ca with the certificate of its authority"
        return away, "is it running, and is this the port of its gRPC endpoint?"


def _stated(error: grpc.aio.AioRpcError) -> tuple[str, list[str]]:
    """Return the reason that a server states for an error, and the invalid fields of the request; empty if it states none."""
    reason, fields, status = "", list[str](), Status()
    with suppress(DecodeError):
        status.ParseFromString(dict(error.trailing_metadata() or ()).get(DETAILS, b""))
    for detail in status.details:
        info, request = ErrorInfo(), BadRequest()
        if detail.Unpack(info):
            reason = info.reason
        elif detail.Unpack(request):
            fields = [violation.field for violation in request.field_violations]
    return reason, fields
