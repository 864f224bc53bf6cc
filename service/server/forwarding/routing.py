"""Routing of requests: those about a job of another server are forwarded to it, all others are handled here."""

import asyncio
import json
import logging
import re
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from functools import partial
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from upres.engine.core.errors import UpresError
from upres.service.api.grpc.decorators import first_of, or_error
from upres.service.api.grpc.status import status_of
from upres.service.api.http.errors import response_of
from upres.service.api.http.live.socket import PATH as SOCKET
from upres.service.api.http.middleware import KEYED
from upres.service.domain.errors import UnavailableError
from upres.service.server.forwarded import PEER
from upres.service.storage.lease import Holder
from upres.v2 import upscale_pb2 as pb

from .job_list import LIST, JobListHandler
from .peers import Peer, Peers
from .request import forward_request
from .rpc import forward_call, was_forwarded
from .socket import RESTART, forward_socket

JOB = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")  # a job's id in a path
# Calls whose first message may contain a job's id.
NAMING = ("GetJob", "CancelJob", "DeleteJob", "WatchJob", "ReadResult", "CreateJob", "Upscale")
MOVED = "the job has just moved from one server to another; try again in a few seconds"

Find = Callable[[str], Awaitable[Holder | None]]

logger = logging.getLogger(__name__)


class JobRouter:
    """Finds the server of a job. find: returns the other server that has a job, or None. secret: shared by all servers."""

    def __init__(self, find: Find, peers: Peers, secret: str) -> None:
        self.secret = secret
        self._find = find
        self._peers = peers

    async def peer(self, request_id: str, *, forwarded: bool) -> Peer | None:
        """Return the server to forward a request about a job to; None if it is handled here. Raises UnavailableError."""
        holder = await self._find(request_id)
        if holder is None:
            return None
        if forwarded:
            raise UnavailableError(MOVED)
        return self._peers.of(holder)


class Web:
    """ASGI application that forwards requests or passes them to `app`. largest: maximum bytes of a message to a client.

    The socket for live jobs contains its job's id in the first message, after it was accepted.
    """

    def __init__(self, app: ASGIApp, router: JobRouter, largest: int) -> None:
        self._app = app
        self._router = router
        self._largest = largest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request, or forward it."""
        match = JOB.search(scope["path"]) if scope["type"] in ("http", "websocket") else None
        if match is not None and not _lacks_key(scope):
            await self._by_path(match[0], scope, receive, send)
        elif scope["type"] == "websocket" and scope["path"].rstrip("/") == SOCKET:
            await AttachSocket(self._app, self._router, self._largest).serve(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _by_path(self, request_id: str, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def sent(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            peer = await self._router.peer(request_id, forwarded=PEER in Headers(scope=scope))
            if peer is not None:
                async with peer.forwarding():
                    await self._forward(peer, scope, receive, sent)
        except Exception as error:  # every error gets a response
            if started:
                logger.info("a forwarded request ends: %s", error)
            else:
                await response_of(error)(scope, receive, send)
            return
        if peer is None:
            await self._app(scope, receive, send)

    async def _forward(self, peer: Peer, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await forward_request(peer, self._router.secret, scope, receive, send)
        else:
            await forward_socket(peer, self._router.secret, self._largest, scope, receive, send)


class AttachSocket:
    """One socket for live jobs, which is forwarded once it attaches to a job of another server."""

    def __init__(self, app: ASGIApp, router: JobRouter, largest: int) -> None:
        self._app = app
        self._router = router
        self._largest = largest
        self._looked = False
        self._peer: asyncio.Future[tuple[Peer, Message]] = asyncio.get_running_loop().create_future()

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve it here until its first message requires forwarding."""

        async def received() -> Message:
            message = await receive()
            if message["type"] == "websocket.receive" and not self._looked:
                self._looked = True
                job_id = _attached_id(message.get("text") or "")
                peer = await self._router.peer(job_id, forwarded=PEER in Headers(scope=scope)) if job_id else None
                if peer is not None:
                    self._peer.set_result((peer, message))
                    await asyncio.Event().wait()  # until it is cancelled
            return message

        async def sent(message: Message) -> None:
            if not self._peer.done():
                await send(message)

        here = asyncio.ensure_future(self._app(scope, received, sent))
        try:
            await asyncio.wait((here, self._peer), return_when=asyncio.FIRST_COMPLETED)
            if here.done():
                await here
                return
        finally:
            here.cancel()
            await asyncio.gather(here, return_exceptions=True)
        await self._forward(*self._peer.result(), scope, receive, send)

    async def _forward(self, peer: Peer, first: Message, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward the socket with its first messages replayed; its client has already been accepted."""
        before: deque[Message] = deque([{"type": "websocket.connect"}, first])

        async def received() -> Message:
            return before.popleft() if before else await receive()

        async def sent(message: Message) -> None:
            if message["type"] in ("websocket.send", "websocket.close"):
                await send(message)

        try:
            async with peer.forwarding():
                await forward_socket(peer, self._router.secret, self._largest, scope, received, sent)
        except UpresError as error:
            logger.info("a socket ends: %s", error)
            with suppress(Exception):  # the client may be gone
                await send({"type": "websocket.close", "code": RESTART, "reason": "reconnect"})


def _lacks_key(scope: Scope) -> bool:
    """Return whether a request will be rejected for lack of a key, regardless of its job's server."""
    return scope["type"] == "http" and scope["path"].startswith(KEYED) and "authorization" not in Headers(scope=scope)


def _attached_id(text: str) -> str:
    """Return the id of the job in a socket's first message; empty if it has none."""
    try:
        request_id = json.loads(text)["attach"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return ""
    return request_id if isinstance(request_id, str) and JOB.fullmatch(request_id) else ""


class Calls(grpc.GenericRpcHandler):
    """gRPC handler that forwards calls or passes them to `handlers`."""

    def __init__(self, handlers: Sequence[grpc.GenericRpcHandler], router: JobRouter) -> None:
        self._handlers = handlers
        self._router = router

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[Any, Any] | None":
        """Return the handler that answers or forwards a call."""
        method = str(handler_call_details.method)
        handler = next((handler for each in self._handlers if (handler := each.service(handler_call_details))), None)
        if handler is not None and method == LIST:
            return JobListHandler(handler, partial(self._router.peer, forwarded=False), self._router.secret).handler
        if handler is None or not method.startswith(f"/{pb.DESCRIPTOR.package}.") or not method.endswith(NAMING):
            return handler
        return grpc.stream_stream_rpc_method_handler(_RoutedCall(method, handler, self._router).answer)


class _RoutedCall:
    """One method, whose messages are bytes, because they may be for another server. local: the handler on this server."""

    def __init__(self, method: str, local: Any, router: JobRouter) -> None:  # noqa: ANN401 - gRPC's own
        self._method = method
        self._local = local
        self._parse = or_error(local.request_deserializer)
        self._router = router

    async def answer(self, requests: Any, context: Any) -> None:  # noqa: ANN401
        """Answer a call here, or forward it, depending on its first message."""
        try:
            first: bytes | None = await first_of(requests, None)
            peer = None
            # Calls without a key are rejected here.
            keyed = any(name == "authorization" for name, _ in context.invocation_metadata() or ())
            if keyed and first is not None and (request_id := _job_id(self._parse(first))):
                peer = await self._router.peer(request_id, forwarded=was_forwarded(context))
            if peer is not None:
                async with peer.forwarding():
                    await forward_call(peer, self._router.secret, self._method, _chained(first, requests), context)
                return
        except UpresError as error:
            await context.abort_with_status(status_of(error))
        await self._answer_here(first, requests, context)

    async def _answer_here(self, first: bytes | None, requests: Any, context: Any) -> None:  # noqa: ANN401
        local = self._local
        request: Any = self._messages(first, requests)
        if not local.request_streaming:
            request = self._parse(first) if first is not None else DecodeError("the request is missing")
        if not local.response_streaming:
            behavior = local.stream_unary if local.request_streaming else local.unary_unary
            await context.write(local.response_serializer(await behavior(request, context)))
            return
        behavior = local.stream_stream if local.request_streaming else local.unary_stream
        async with aclosing(behavior(request, context)) as responses:
            async for response in responses:
                await context.write(local.response_serializer(response))

    async def _messages(self, first: bytes | None, requests: Any) -> AsyncGenerator[Any]:  # noqa: ANN401
        async for request in _chained(first, requests):
            yield self._local.request_deserializer(request)


async def _chained(first: bytes | None, rest: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    if first is not None:
        yield first
        async for request in rest:
            yield request


def _job_id(message: Any) -> str:  # noqa: ANN401 - any of the contract's
    """Return the id of the job in a call's first message; empty if it has none."""
    match message:
        case pb.CreateJobRequest():
            return message.begin.request_id
        case pb.UpscaleRequest():
            return message.attach.request_id
    return str(getattr(message, "request_id", ""))
