"""What every gRPC call passes: its caller is identified, its errors become statuses, its first message has a time limit."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from functools import wraps
from typing import Any, TypeAlias, TypeVar

import grpc
from google.protobuf.message import DecodeError

from upres.service.api.error_map import answer, known
from upres.service.auth.api_keys import Keys
from upres.service.auth.rate_limit import Quota
from upres.service.domain.errors import InvalidError, UnauthenticatedError
from upres.service.jobs.service import Jobs
from upres.service.storage.job_store import Job
from upres.service.telemetry.tally import Telemetry
from upres.v2 import upscale_pb2 as pb

from .messages import job_of
from .status import status_of

FIRST_SECONDS = 30.0
OURS = "/upres."
PACKAGE = pb.DESCRIPTOR.package
FAULTS = (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DATA_LOSS)  # not the caller's
RECHECK_SECONDS = 2.0  # between two checks that a stream's key is still in use

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
S = TypeVar("S", bound="Service")
Q = TypeVar("Q")
A = TypeVar("A")


class Service:
    """What the three services share: the jobs, the caller's identity, its rate, and how calls end, which is counted."""

    def __init__(self, jobs: Jobs, keys: Keys, quota: Quota, telemetry: Telemetry) -> None:
        self.jobs = jobs
        self._telemetry = telemetry
        self._keys = keys
        self._quota = quota

    async def owner(self, context: Context) -> str:
        """Identify the caller and count the call; raises UnauthenticatedError, and BusyError where it calls too often."""
        owner = await self.identify(context)
        self._quota.take(owner)
        return owner

    async def identify(self, context: Context) -> str:
        """Find the name of the caller's key; raises UnauthenticatedError without exactly one key that is in use."""
        secrets = [str(value) for name, value in context.invocation_metadata() or () if name == "authorization"]
        scheme, _, secret = (secrets[0] if len(secrets) == 1 else "").partition(" ")
        owner = await asyncio.to_thread(self._keys.owner, secret) if scheme.lower() == "bearer" else None
        if owner is None:
            raise UnauthenticatedError(
                "the metadata must hold one `authorization: Bearer KEY`, with a key that is in use"
            )
        return owner

    @contextmanager
    def counted(self, name: str) -> Iterator[None]:
        """Count a call by how it ends. Its errors become statuses outside; one without an error was given up by its client."""
        code = grpc.StatusCode.CANCELLED
        try:
            yield
            code = grpc.StatusCode.OK
        except Exception as error:
            code = answer(known(error)).grpc
            raise
        finally:
            self._telemetry.tally.grpc.labels(name, code.name).inc()

    @contextmanager
    def traced(self, name: str, context: Context) -> Iterator[None]:
        """Make a span of a call whose caller is known, which continues the caller's trace."""
        sent = [str(value) for key, value in context.invocation_metadata() or () if key == "traceparent"]
        service, _, method = name.partition(".")
        facts = {"rpc.system": "grpc", "rpc.service": f"{PACKAGE}.{service}", "rpc.method": method}
        with self._telemetry.tracing.request(f"{PACKAGE}.{service}/{method}", sent, facts) as noted:
            try:
                yield
            except Exception as error:
                code = answer(known(error)).grpc
                noted["rpc.grpc.status_code"] = code.value[0]
                noted["problem"] = code.name if code in FAULTS else None
                raise

    async def message(self, job: Job) -> pb.Job:
        """Convert a job to its message."""
        return job_of(job, self.jobs.source_offset(job))


def one(call: Callable[[S, Q, str], Awaitable[A]]) -> Callable[[S, Q, Context], Awaitable[A]]:
    """Wrap a call with one response: identify its caller, and map its errors."""

    @wraps(call)
    async def respond(self: S, request: Q, context: Context) -> A:
        try:
            with self.counted(call.__qualname__):
                owner = await self.owner(context)
                with self.traced(call.__qualname__, context):
                    return await call(self, _parsed(request), owner)
        except Exception as error:  # every error becomes a status
            await context.abort_with_status(status_of(error))
            raise

    return respond


def many(call: Callable[[S, Q, str], AsyncGenerator[A]]) -> Callable[[S, Q, Context], AsyncGenerator[A]]:
    """Wrap a call with a stream of responses, likewise; the stream ends soon after its key was revoked."""

    @wraps(call)
    async def respond(self: S, request: Q, context: Context) -> AsyncGenerator[A]:
        try:
            with self.counted(call.__qualname__):
                owner = await self.owner(context)
                with self.traced(call.__qualname__, context):
                    async with aclosing(call(self, _parsed(request), owner)) as responses:
                        checked = time.monotonic()
                        async for response in responses:
                            if time.monotonic() > checked + RECHECK_SECONDS:
                                await self.identify(context)
                                checked = time.monotonic()
                            yield response
        except Exception as error:  # every error becomes a status
            await context.abort_with_status(status_of(error))

    return respond


async def first_of(requests: AsyncIterator[Q], missing: Q) -> Q:
    """Wait for the first message, or what stands for a missing one; raises InvalidError where it does not come in time."""
    try:
        async with asyncio.timeout(FIRST_SECONDS):
            return await anext(requests, missing)
    except TimeoutError as error:
        raise InvalidError({"kind": [f"The first message must come within {FIRST_SECONDS:g} seconds."]}) from error


class CorruptRequests(grpc.aio.ServerInterceptor):
    """Hands a single request that is no valid protobuf to its call as a DecodeError; gRPC itself answers UNKNOWN."""

    async def intercept_service(self, continuation: Any, details: Any) -> Any:  # noqa: ANN401 - as gRPC has it
        """Wrap the parsing of a call's request."""
        handler = await continuation(details)
        if handler is None or handler.request_streaming or not details.method.startswith(OURS):
            return handler
        parse = or_error(handler.request_deserializer)
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(handler.unary_stream, parse, handler.response_serializer)
        return grpc.unary_unary_rpc_method_handler(handler.unary_unary, parse, handler.response_serializer)


def or_error(parse: Callable[[bytes], Q]) -> Callable[[bytes], Q | DecodeError]:
    """Make a parser that returns a DecodeError in place of raising it."""

    def parsed(data: bytes) -> Q | DecodeError:
        try:
            return parse(data)
        except DecodeError as error:
            return error

    return parsed


def _parsed(request: Q) -> Q:
    if isinstance(request, DecodeError):
        raise request
    return request
