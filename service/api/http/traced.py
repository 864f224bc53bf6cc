"""Spans of authenticated requests, which continue the trace of the client."""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from upres.service.telemetry.tracing import Tracing

from .counted import method_of, route_of

FAULT = 500  # lowest status of a server error


class Traced:
    """Middleware that creates a span for each authenticated request; others could be used to flood the traces."""

    def __init__(self, app: ASGIApp, tracing: Tracing) -> None:
        self._app = app
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and trace it."""
        if scope["type"] != "http" or "owner" not in scope.get("state", {}):
            await self._app(scope, receive, send)
            return
        method, sent = method_of(scope), Headers(scope=scope).getlist("traceparent")
        with self._tracing.request(method, sent, {"http.request.method": method}) as known:

            async def observed_send(message: Message) -> None:
                if message["type"] == "http.response.start":
                    known["http.response.status_code"] = status = message["status"]
                    if status >= FAULT:
                        known["problem"] = str(status)
                await send(message)

            try:
                await self._app(scope, receive, observed_send)
            finally:
                known["http.route"] = route_of(scope)
                known["name"] = f"{method} {known['http.route']}"
