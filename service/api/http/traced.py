"""Requests with a key as spans, which continue the trace of who sent them."""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from upres.service.telemetry.tracing import Tracing

from .counted import method_of, route_of

FAULT = 500  # from which status on it is the server's


class Traced:
    """Makes a span of every request that has passed the gate with a key. Others make none, or anybody could fill traces."""

    def __init__(self, app: ASGIApp, tracing: Tracing) -> None:
        self._app = app
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, and trace it."""
        if scope["type"] != "http" or "owner" not in scope.get("state", {}):
            await self._app(scope, receive, send)
            return
        method, sent = method_of(scope), Headers(scope=scope).getlist("traceparent")
        with self._tracing.request(method, sent, {"http.request.method": method}) as known:

            async def noting(message: Message) -> None:
                if message["type"] == "http.response.start":
                    known["http.response.status_code"] = status = message["status"]
                    if status >= FAULT:
                        known["problem"] = str(status)
                await send(message)

            try:
                await self._app(scope, receive, noting)
            finally:
                known["http.route"] = route_of(scope)
                known["name"] = f"{method} {known['http.route']}"
