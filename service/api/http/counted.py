"""Requests counted by route and answer, before anything else looks at them."""

from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from upres.service.telemetry.tally import Tally

METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH")
OTHER = "other"  # in place of a path that is no route's, which is a client's word
SWITCHED, FOREIGN, LOST = 101, 403, 499  # of WebSockets; where the client left, or the server failed, before an answer


class Counted:
    """Counts every request once it is over."""

    def __init__(self, app: ASGIApp, tally: Tally) -> None:
        self._app = app
        self._tally = tally

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, and count it."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        scope, code = dict(scope), LOST  # what routes it writes into the scope

        async def noting(message: Message) -> None:
            nonlocal code
            if code == LOST:
                code = _code(message)
            await send(message)

        try:
            await self._app(scope, receive, noting)
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
    """Return the method of a request; a WebSocket begins as a GET."""
    method: str = scope.get("method", "GET")
    return method if method in METHODS else OTHER


def route_of(scope: Scope) -> str:
    """Return the route of a request that was routed, as it was registered: its path with names in place of what clients choose."""
    route = scope.get("route")
    if not isinstance(route, Route | WebSocketRoute):
        return OTHER
    names = {str(value): f"{{{name}}}" for name, value in scope.get("path_params", {}).items()}
    path = "/".join(names.get(part, part) for part in scope["path"].split("/"))
    return path if path.endswith(route.path_format) else OTHER  # where a value was not one part of the path
