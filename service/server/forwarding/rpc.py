"""Any gRPC call, passed on message by message as bytes: one with a single message is a stream of one."""

import asyncio
import logging
from functools import partial
from typing import Any

import grpc

from upres.service.api.grpc.status import status_of
from upres.service.domain.errors import UnavailableError
from upres.service.server.forwarded import PEER

from .working import LOOP, UNREACHABLE, Peer, Working

NOT_PASSED = frozenset({PEER, "user-agent"})  # gRPC writes the second one by itself

logger = logging.getLogger(__name__)


class Calls(grpc.GenericRpcHandler):
    """What answers every call. secret: by which the others see that it was passed on."""

    def __init__(self, working: Working, secret: str) -> None:
        self._working = working
        self._secret = secret

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[Any, Any]":
        """Give what passes a call on."""
        return grpc.stream_stream_rpc_method_handler(partial(self._pass_on, handler_call_details.method))

    async def _pass_on(self, method: str, requests: Any, context: Any) -> None:  # noqa: ANN401 - gRPC's own
        try:
            if was_passed_on(context):
                raise UnavailableError(LOOP)
            async with self._working.forwarding() as peer:
                await pass_call(peer, self._secret, method, requests, context)
        except UnavailableError as error:
            await context.abort_with_status(status_of(error))


def was_passed_on(context: Any) -> bool:  # noqa: ANN401
    """Report whether a call comes from another server."""
    return any(name == PEER for name, _ in context.invocation_metadata() or ())


async def pass_call(peer: Peer, secret: str, method: str, requests: Any, context: Any) -> None:  # noqa: ANN401
    """Pass a call on, and back what comes of it. requests: its messages as bytes. Raises UnavailableError where nothing comes."""
    passed = [(name, value) for name, value in context.invocation_metadata() or () if name not in NOT_PASSED]
    call: Any = peer.channel.stream_stream(method)(
        requests, metadata=(*passed, (PEER, secret)), timeout=context.time_remaining()
    )
    try:
        await _answer(call, context)
    finally:
        call.cancel()


async def _answer(call: Any, context: Any) -> None:  # noqa: ANN401
    """Pass back what comes of a call; raises UnavailableError where that is nothing."""
    try:
        await context.send_initial_metadata(tuple(await call.initial_metadata()))
        async for message in call:
            await context.write(message)
    except grpc.aio.AioRpcError:
        pass  # how it has ended is read below
    except asyncio.CancelledError:
        if (task := asyncio.current_task()) is None or task.cancelling():
            raise  # otherwise it is the server that has cancelled
    code, trailing = await call.code(), tuple(await call.trailing_metadata() or ())
    if code is grpc.StatusCode.UNAVAILABLE and not trailing:  # by gRPC itself: the server's own has details
        logger.warning("the server that works cannot be reached over gRPC: %s", await call.details())
        raise UnavailableError(UNREACHABLE)
    context.set_trailing_metadata(trailing)
    if code is not grpc.StatusCode.OK:
        await context.abort(code, await call.details() or "", trailing)
