"""Counts of requests by route and status; the outermost middleware."""

from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from upres.service.telemetry.tally import Tally

METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH")
OTHER = "other"  # replaces paths without a route, which clients choose freely
SWITCHED, FOREIGN, LOST = 101, 403, 499  # statuses of WebSockets, and of requests that ended without a response


class Counted:
    """Middleware that counts every request when it ends."""

    def __init__(self, app: ASGIApp, tally: Tally) -> None:
        self._app = app
        self._tally = tally

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and count it."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        scope, code = dict(scope), LOST  # a copy, because the router modifies the scope

        async def observed_send(message: Message) -> None:
            nonlocal code
            if code == LOST:
                code = _code(message)
            await send(message)

        try:
            await self._app(scope, receive, observed_send)
        finally:
            self._tally.http.labels(method_of(scope), route_of(scope), code).inc()


def _code(message: Message) -> int:
    match message["type"]:
        case "http.response.start":
            return int(message["status"])
        case "websocket.accept":
            return SWITCHED
        case "websocket.close":
            return FOREIGN
    return LOST


def method_of(scope: Scope) -> str:
    """Return the method of a request; GET for a WebSocket."""
    method: str = scope.get("method", "GET")
    return method if method in METHODS else OTHER


def route_of(scope: Scope) -> str:
    """Return the route of a request as registered: its path with parameter names in place of their values."""
    route = scope.get("route")
    if not isinstance(route, Route | WebSocketRoute):
        return OTHER
    names = {str(value): f"{{{name}}}" for name, value in scope.get("path_params", {}).items()}
    path = "/".join(names.get(part, part) for part in scope["path"].split("/"))
    return path if path.endswith(route.path_format) else OTHER  # OTHER if a parameter is not a whole path component
