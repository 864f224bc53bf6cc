"""Checks of every request: key, rate limit, size, pauses and origin. Adds rate-limit headers to responses."""

import asyncio
from collections.abc import Callable, Sequence

from fastapi import FastAPI
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from upres.engine.core.text import counted
from upres.service.auth.api_keys import Keys
from upres.service.auth.rate_limit import Quota
from upres.service.domain.errors import SilentError, TooLargeError, UnauthenticatedError
from upres.service.telemetry.tally import Telemetry

from .counted import Counted
from .errors import response_of
from .traced import Traced

KEYED = ("/api/", "/broadcasting/")
UNLIMITED = ("/models", "/balance")  # not rate-limited: clients request these before and after each job
LARGEST_BODY = 75_000_000  # from the contract: larger ones get 413; higher if the operator accepts larger videos
FORM_BYTES = 1 << 20  # upper limit of a request besides its video; bodies up to this size stay in memory
ROOM_BYTES = 8 << 20  # of a body between two checks of the free disk space
RATE_HEADERS = ("Limit", "Remaining", "Daily-Limit", "Daily-Remaining", "Source", "Type")


def protect(
    app: FastAPI,
    keys: Keys,
    quota: Quota,
    *,
    idle_seconds: float,
    origins: Sequence[str],
    upload_bytes: int,
    check_room: Callable[[int], None],
    telemetry: Telemetry,
) -> None:
    """Add the gate to an application, and in front of it the handling of cross-origin requests.

    origins: those whose pages may call the API, `*` for any; a preflight request carries no key, and needs none. upload_bytes: the
    largest video. check_room: raises DiskFullError if the disk has no room for that many bytes.
    """
    largest = max(LARGEST_BODY, upload_bytes + FORM_BYTES)
    if telemetry.tracing.on:
        app.add_middleware(Traced, tracing=telemetry.tracing)
    app.add_middleware(Gate, keys=keys, quota=quota, idle_seconds=idle_seconds, largest=largest, check_room=check_room)
    if origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(origins),
            allow_methods=["GET", "HEAD", "POST", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "Range"],
            expose_headers=[*(f"X-RateLimit-{name}" for name in RATE_HEADERS), "Retry-After", "Content-Range"],
        )
    app.add_middleware(Counted, tally=telemetry.tally)


class Gate:
    """Middleware that sets `scope["state"]["owner"]` to the key's owner. idle_seconds: longest pause of a sender."""

    def __init__(
        self,
        app: ASGIApp,
        keys: Keys,
        quota: Quota,
        *,
        idle_seconds: float,
        largest: int,
        check_room: Callable[[int], None],
    ) -> None:
        self._app = app
        self._keys = keys
        self._quota = quota
        self._idle_seconds = idle_seconds
        self._largest = largest
        self._check_room = check_room

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or reject it."""
        if scope["type"] == "http":
            scope["path"] = scope["path"].rstrip("/") or "/"
        if scope["type"] != "http" or not scope["path"].startswith(KEYED) or scope["method"] == "OPTIONS":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        owner: str | None = None
        started = False

        async def send_with_rates(message: Message) -> None:
            nonlocal started
            started = True
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self._rates(owner))
            await send(message)

        try:
            owner = await self._owner(headers)
            if not scope["path"].endswith(UNLIMITED):
                self._quota.take(owner)
            length = _length(headers)
            self._check_length(length)
            if length > FORM_BYTES:
                self._check_room(2 * length)  # it is spooled and then copied
            scope["state"] = {**scope.get("state", {}), "owner": owner}
            await self._app(scope, self._checked(receive), send_with_rates)
        except Exception as error:  # every error gets a response
            if started:
                raise
            await response_of(error)(scope, receive, send_with_rates)

    async def _owner(self, headers: Headers) -> str:
        scheme, _, secret = headers.get("authorization", "").partition(" ")
        owner = await asyncio.to_thread(self._keys.owner, secret) if scheme.lower() == "bearer" else None
        if owner is None:
            raise UnauthenticatedError("Unauthenticated.")
        return owner

    def _rates(self, owner: str | None) -> dict[str, str]:
        """Return the rate-limit headers. If no requests are left today, none are left this minute either."""
        rates = self._quota.rates(owner)
        return {
            "X-RateLimit-Limit": str(rates.per_minute),
            "X-RateLimit-Remaining": str(min(rates.remaining_this_minute, rates.remaining_today)),
            "X-RateLimit-Daily-Limit": str(rates.per_day),
            "X-RateLimit-Daily-Remaining": str(rates.remaining_today),
            "X-RateLimit-Source": "api_key",
        }

    def _check_length(self, length: int) -> None:
        if length > self._largest:
            raise TooLargeError(f"The request must not be larger than {self._largest} bytes.")

    def _checked(self, receive: Receive) -> Receive:
        """Pass the body on; reject it once it is too large, regardless of its declared length, or pauses for too long.

        Also reject it once the disk has no room for more, which others may fill too.
        """
        received, complete, looked = 0, False, FORM_BYTES - ROOM_BYTES

        async def counting() -> Message:
            nonlocal received, complete, looked
            if complete:  # only a disconnect can follow
                return await receive()
            try:
                async with asyncio.timeout(self._idle_seconds):
                    message = await receive()
            except TimeoutError as error:
                raise SilentError(
                    f"No byte of the request was received for {counted(self._idle_seconds, 'second')}."
                ) from error
            complete = not message.get("more_body", False)
            received += len(message.get("body", b""))
            self._check_length(received)
            if received >= looked + ROOM_BYTES:
                looked = received
                self._check_room(ROOM_BYTES)
            return message

        return counting


def _length(headers: Headers) -> int:
    text = headers.get("content-length", "0")
    return int(text) if text.isdecimal() and len(text) < 19 else 0
