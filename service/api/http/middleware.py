"""What every request for which a key is needed passes first: a key, a rate, a size. Every answer leaves with its rate headers."""

import asyncio

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from upres.service.auth.api_keys import Keys
from upres.service.auth.rate_limit import Quota
from upres.service.domain.errors import SilentError, TooLargeError, UnauthenticatedError

from .errors import told

KEYED = ("/api/", "/broadcasting/")
LARGEST_BODY = 75_000_000  # the contract's: beyond it the answer is 413


class Gate:
    """The owner of the key is found in `scope["state"]["owner"]` behind it. idle_seconds: how long a sender may be silent."""

    def __init__(
        self, app: ASGIApp, keys: Keys, quota: Quota, *, idle_seconds: float, largest: int = LARGEST_BODY
    ) -> None:
        self._app = app
        self._keys = keys
        self._quota = quota
        self._idle_seconds = idle_seconds
        self._largest = largest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it."""
        if scope["type"] != "http" or not scope["path"].startswith(KEYED):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        owner: str | None = None
        begun = False

        async def labelled(message: Message) -> None:
            nonlocal begun
            begun = True
            if message["type"] == "http.response.start":
                left = self._quota.limit if owner is None else self._quota.left(owner)
                rate = MutableHeaders(scope=message)
                rate["X-RateLimit-Limit"], rate["X-RateLimit-Remaining"] = str(self._quota.limit), str(left)
            await send(message)

        try:
            owner = await self._owner(headers)
            self._quota.take(owner)
            self._check_length(int(headers.get("content-length") or 0))
            scope.setdefault("state", {})["owner"] = owner
            await self._app(scope, self._counted(receive), labelled)
        except Exception as error:  # every error is told to the caller
            if begun:
                raise
            await told(error)(scope, receive, labelled)

    async def _owner(self, headers: Headers) -> str:
        scheme, _, secret = headers.get("authorization", "").partition(" ")
        owner = await asyncio.to_thread(self._keys.owner, secret) if scheme.lower() == "bearer" else None
        if owner is None:
            raise UnauthenticatedError("Unauthenticated.")
        return owner

    def _check_length(self, length: int) -> None:
        if length > self._largest:
            raise TooLargeError(f"The request must not be larger than {self._largest} bytes.")

    def _counted(self, receive: Receive) -> Receive:
        """The same body, refused as soon as it is too large, whatever length was announced, or comes no more."""
        came, whole = 0, False

        async def counted() -> Message:
            nonlocal came, whole
            if whole:  # what may still come is that the client goes
                return await receive()
            try:
                async with asyncio.timeout(self._idle_seconds):
                    message = await receive()
            except TimeoutError as error:
                raise SilentError(f"No byte of the request came for {self._idle_seconds:g} seconds.") from error
            whole = not message.get("more_body", False)
            came += len(message.get("body", b""))
            self._check_length(came)
            return message

        return counted
