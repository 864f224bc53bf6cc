"""Look-ups of a job's server: combined for concurrent callers, and skipped for requests that are rejected anyway."""

import asyncio

import grpc
import pytest
from starlette.responses import PlainTextResponse

from upres.service.domain.errors import StoreError, UnavailableError
from upres.service.domain.request_id import new_id
from upres.service.server.forwarding.look_ups import LookUps
from upres.service.server.forwarding.routing import Calls, JobRouter, Web
from upres.service.storage.lease import Holder
from upres.v2 import upscale_pb2 as pb

OTHER = Holder("there", "there")


class Lookup:
    """A fake database. Records how often it was queried, and for which jobs."""

    def __init__(self, **holders):
        self.holders, self.sizes = holders, []

    async def __call__(self, request_ids):
        self.sizes.append(len(request_ids))
        await asyncio.sleep(0)
        if "broken" in request_ids:
            raise StoreError("away")
        return {name: holder for name, holder in self.holders.items() if name in request_ids}


def test_however_many_ask_there_is_one_question_at_a_time():
    async def scenario():
        holders = Lookup(there=OTHER)
        look_up = LookUps(holders)
        first = asyncio.ensure_future(look_up("here"))
        while not holders.sizes:
            await asyncio.sleep(0)
        others = await asyncio.gather(*(look_up(f"{number}") for number in range(1000)), look_up("there"))
        assert await first is None and others == [None] * 1000 + [OTHER]
        assert holders.sizes == [1, 1001]

    asyncio.run(scenario())


def test_what_is_wrong_with_one_question_is_told_to_all_who_asked_it_and_to_nobody_later():
    async def scenario():
        look_up = LookUps(Lookup(moving=None))
        with pytest.raises(UnavailableError, match="takes it over"):
            await look_up("moving")
        cancelled = asyncio.ensure_future(look_up("broken"))
        other = asyncio.ensure_future(look_up("here"))
        await asyncio.sleep(0)
        cancelled.cancel()
        with pytest.raises(StoreError):
            await other
        assert await look_up("here") is None

    asyncio.run(scenario())


@pytest.mark.parametrize("path", ["/api/v2/jobs/{}", "/broadcasting/{}"])
def test_a_request_without_a_key_is_looked_up_nowhere(path):
    async def scenario():
        holders = Lookup()
        web = Web(PlainTextResponse("refused"), JobRouter(LookUps(holders), None, ""), 1)
        for headers in ([], [(b"authorization", b"Bearer x")]):
            scope = {"type": "http", "method": "GET", "path": path.format(new_id()), "headers": headers}
            sent = []

            async def send(message, sent=sent):
                sent.append(message)

            await web(scope, None, send)
            assert sent[-1]["body"] == b"refused"
        assert holders.sizes == [1]

    asyncio.run(scenario())


class Local(grpc.GenericRpcHandler):
    def service(self, details):
        return grpc.unary_unary_rpc_method_handler(
            self.refuse, pb.GetJobRequest.FromString, pb.GetJobResponse.SerializeToString
        )

    async def refuse(self, request, context):
        return pb.GetJobResponse()


class Context:
    def __init__(self, *metadata):
        self.metadata, self.written = metadata, []

    def invocation_metadata(self):
        return self.metadata

    async def write(self, message):
        self.written.append(message)


class Details:
    method = f"/{pb.DESCRIPTOR.package}.JobService/GetJob"


def test_a_call_without_a_key_is_looked_up_nowhere():
    async def requests():
        yield pb.GetJobRequest(request_id=new_id()).SerializeToString()

    async def scenario():
        holders = Lookup()
        handler = Calls([Local()], JobRouter(LookUps(holders), None, "")).service(Details)
        for context in (Context(), Context(("authorization", "Bearer x"))):
            await handler.stream_stream(requests(), context)
            assert context.written == [b""]
        assert holders.sizes == [1]

    asyncio.run(scenario())
