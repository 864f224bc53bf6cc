"""Forwarding of calls of any kind to a fake server: the response is the one it sent."""

import asyncio
from contextlib import asynccontextmanager

import grpc
import pytest

from upres.service.server.forwarded import PEER
from upres.service.server.forwarding.peers import LOST, TURN, ActiveServer, Trust
from upres.service.server.forwarding.rpc import Calls
from upres.service.server.grpc_server import Endpoint
from upres.service.storage.lease import Holder

LONGEST_SECONDS = 60


class Toy(grpc.GenericRpcHandler):
    """Fake service. seen: the metadata of the last call. cancelled: set when a caller has cancelled."""

    def __init__(self):
        self.seen, self.cancelled, self.waits = None, asyncio.Event(), asyncio.Event()

    def service(self, details):
        return {
            "/toy/one": grpc.unary_unary_rpc_method_handler(self.one),
            "/toy/both": grpc.stream_stream_rpc_method_handler(self.both),
            "/toy/wait": grpc.unary_stream_rpc_method_handler(self.wait),
            "/toy/cancel": grpc.unary_unary_rpc_method_handler(self.cancel),
        }.get(details.method)

    async def one(self, request, context):
        self.seen = dict(context.invocation_metadata())
        await context.send_initial_metadata((("first", "1"),))
        context.set_trailing_metadata((("last-bin", b"\x00\xff"),))
        if request == b"fail":
            await context.abort(grpc.StatusCode.OUT_OF_RANGE, "at 7: “dort”", (("why-bin", b"\x07"),))
        return request * 2

    async def both(self, requests, context):
        async for request in requests:
            yield request

    async def wait(self, request, context):
        try:
            yield b"begun"
            self.waits.set()
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()

    async def cancel(self, request, context):
        await context.abort(grpc.StatusCode.CANCELLED, "by the server")


@asynccontextmanager
async def passing():
    """An active server, a forwarding endpoint in front of it, and a channel to that."""
    toy, behind, front = Toy(), Endpoint("127.0.0.1:0"), Endpoint("127.0.0.1:0")
    active = ActiveServer("http://127.0.0.1:1", Trust.read(None))
    behind.handlers, front.handlers = [toy], [Calls(active, "the secret")]
    await behind.start()
    await front.start()
    await active.follow(Holder("id", "it", "http://127.0.0.1:2", f"127.0.0.1:{behind.port}"))
    async with asyncio.timeout(LONGEST_SECONDS), grpc.aio.insecure_channel(f"127.0.0.1:{front.port}") as channel:
        yield toy, active, channel
    await front.stop(None)
    await active.lose(TURN)
    await behind.stop(None)


def run(scenario):
    async def whole():
        async with passing() as parts:
            await scenario(*parts)

    asyncio.run(whole())


def test_a_call_and_its_answer_arrive_unchanged_with_their_metadata():
    async def scenario(toy, active, channel):
        call = channel.unary_unary("/toy/one")(b"ab", metadata=(("authorization", "x"), ("own-bin", b"\xff\x00")))
        assert await call == b"abab"
        assert (
            toy.seen["authorization"] == "x" and toy.seen["own-bin"] == b"\xff\x00" and toy.seen[PEER] == "the secret"
        )
        assert dict(await call.initial_metadata())["first"] == "1"
        assert dict(await call.trailing_metadata())["last-bin"] == b"\x00\xff"

    run(scenario)


def test_a_status_arrives_unchanged():
    async def scenario(toy, active, channel):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary("/toy/one")(b"fail")
        error = caught.value
        assert (error.code(), error.details()) == (grpc.StatusCode.OUT_OF_RANGE, "at 7: “dort”")
        assert dict(error.trailing_metadata())["why-bin"] == b"\x07"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary("/toy/none")(b"")
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        call = channel.unary_unary("/toy/cancel")(b"")
        assert (await call.code(), await call.details()) == (grpc.StatusCode.CANCELLED, "by the server")

    run(scenario)


def test_messages_go_both_ways_while_the_call_lasts():
    async def scenario(toy, active, channel):
        call = channel.stream_stream("/toy/both")()
        for number in range(3):
            await call.write(b"%d" % number)
            assert await call.read() == b"%d" % number
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF and await call.code() is grpc.StatusCode.OK

    run(scenario)


@pytest.mark.parametrize("how", ["cancelled", "late"])
def test_a_caller_that_goes_ends_the_call_behind_it(how):
    async def scenario(toy, active, channel):
        call = channel.unary_stream("/toy/wait")(b"", timeout=1 if how == "late" else None)
        assert await call.read() == b"begun"
        if how == "cancelled":
            call.cancel()
        else:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call.read()
            assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await toy.cancelled.wait()

    run(scenario)


def test_calls_end_when_their_server_no_longer_works():
    async def scenario(toy, active, channel):
        call = channel.unary_stream("/toy/wait")(b"")
        assert await call.read() == b"begun"
        await active.lose(TURN)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.UNAVAILABLE, LOST)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary("/toy/one")(b"")
        assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.UNAVAILABLE, TURN)

    run(scenario)


def test_what_was_passed_on_once_is_not_passed_on_again():
    async def scenario(toy, active, channel):
        with pytest.raises(grpc.aio.AioRpcError, match="not ready yet") as caught:
            await channel.unary_unary("/toy/one")(b"", metadata=((PEER, "any"),))
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE and toy.seen is None

    run(scenario)


@pytest.mark.parametrize(
    ("http", "grpc_", "why"),
    [
        (None, None, "has an older version"),
        ("http://127.0.0.1:1", "127.0.0.1:1", "is gone"),  # its own address, from before its restart
        ("http://127.0.0.1:9", "127.0.0.1:1", "cannot be reached"),
        ("no address", "at all", "has an older version"),
    ],
)
def test_why_nothing_is_passed_on_is_said(http, grpc_, why):
    async def scenario(toy, active, channel):
        await active.follow(Holder("other", "it", http, grpc_))
        with pytest.raises(grpc.aio.AioRpcError, match=why) as caught:
            await channel.unary_unary("/toy/one")(b"")
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE

    run(scenario)
