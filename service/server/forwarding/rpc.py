"""Forwarding of any gRPC call, message by message as bytes; a unary call is a stream of one message."""

import asyncio
import logging
from functools import partial
from typing import Any

import grpc

from upres.service.api.grpc.status import status_of
from upres.service.domain.errors import UnavailableError
from upres.service.server.forwarded import PEER

from .peers import LOOP, UNREACHABLE, ActiveServer, Peer

NOT_PASSED = frozenset({PEER, "user-agent"})  # gRPC adds the second one

logger = logging.getLogger(__name__)


class Calls(grpc.GenericRpcHandler):
    """Handler of all calls on a standby server. secret: identifies forwarded calls to the other servers."""

    def __init__(self, active: ActiveServer, secret: str) -> None:
        self._active = active
        self._secret = secret

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[Any, Any]":
        """Return the handler that forwards a call."""
        return grpc.stream_stream_rpc_method_handler(partial(self._forward, handler_call_details.method))

    async def _forward(self, method: str, requests: Any, context: Any) -> None:  # noqa: ANN401 - gRPC's own
        try:
            if was_forwarded(context):
                raise UnavailableError(LOOP)
            async with self._active.forwarding() as peer:
                await forward_call(peer, self._secret, method, requests, context)
        except UnavailableError as error:
            await context.abort_with_status(status_of(error))


def was_forwarded(context: Any) -> bool:  # noqa: ANN401
    """Return whether a call was forwarded by another server."""
    return any(name == PEER for name, _ in context.invocation_metadata() or ())


async def forward_call(peer: Peer, secret: str, method: str, requests: Any, context: Any) -> None:  # noqa: ANN401
    """Forward a call and its response. requests: its messages as bytes. Raises UnavailableError if nothing is received."""
    passed = [(name, value) for name, value in context.invocation_metadata() or () if name not in NOT_PASSED]
    call: Any = peer.channel.stream_stream(method)(
        requests, metadata=(*passed, (PEER, secret)), timeout=context.time_remaining()
    )
    try:
        await _answer(call, context)
    finally:
        call.cancel()


async def _answer(call: Any, context: Any) -> None:  # noqa: ANN401
    """Return the response of a call; raises UnavailableError if there is none."""
    try:
        await context.send_initial_metadata(tuple(await call.initial_metadata()))
        async for message in call:
            await context.write(message)
    except grpc.aio.AioRpcError:
        pass  # the status is read below
    except asyncio.CancelledError:
        if (task := asyncio.current_task()) is None or task.cancelling():
            raise  # otherwise the server has cancelled the call
    code, trailing = await call.code(), tuple(await call.trailing_metadata() or ())
    if code is grpc.StatusCode.UNAVAILABLE and not trailing:  # from gRPC itself; the server's own status has details
        logger.warning("the other server cannot be reached over gRPC: %s", await call.details())
        raise UnavailableError(UNREACHABLE)
    context.set_trailing_metadata(trailing)
    if code is not grpc.StatusCode.OK:
        await context.abort(code, await call.details() or "", trailing)
