"""Common handling of gRPC calls: authentication, conversion of errors to statuses, and a time limit for the first message."""

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
PREFIX = "/upres."
PACKAGE = pb.DESCRIPTOR.package
# Errors that the caller did not cause.
FAULTS = (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DATA_LOSS)
RECHECK_SECONDS = 2.0  # between two checks that a stream's key is still valid

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
S = TypeVar("S", bound="Service")
Q = TypeVar("Q")
A = TypeVar("A")


class Service:
    """Base of the three services: the jobs, the caller's identity and rate limit, and the count of calls by status."""

    def __init__(self, jobs: Jobs, keys: Keys, quota: Quota, telemetry: Telemetry) -> None:
        self.jobs = jobs
        self._telemetry = telemetry
        self._keys = keys
        self._quota = quota

    async def owner(self, context: Context) -> str:
        """Identify the caller and count the call; raises UnauthenticatedError, and BusyError if it exceeds its rate limit."""
        owner = await self.identify(context)
        self._quota.take(owner)
        return owner

    async def identify(self, context: Context) -> str:
        """Return the name of the caller's key; raises UnauthenticatedError unless there is exactly one valid key."""
        secrets = [str(value) for name, value in context.invocation_metadata() or () if name == "authorization"]
        scheme, _, secret = (secrets[0] if len(secrets) == 1 else "").partition(" ")
        owner = await asyncio.to_thread(self._keys.owner, secret) if scheme.lower() == "bearer" else None
        if owner is None:
            raise UnauthenticatedError(
                "the metadata must contain exactly one `authorization: Bearer KEY`, with a valid key"
            )
        return owner

    @contextmanager
    def counted(self, name: str) -> Iterator[None]:
        """Count a call by its status; a call without result or error was cancelled. The caller converts errors to statuses."""
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
        """Create a span of a call from an identified caller, which continues the caller's trace."""
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


def unary(call: Callable[[S, Q, str], Awaitable[A]]) -> Callable[[S, Q, Context], Awaitable[A]]:
    """Wrap a call with a single response: identify its caller, and map its errors."""

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


def streaming(call: Callable[[S, Q, str], AsyncGenerator[A]]) -> Callable[[S, Q, Context], AsyncGenerator[A]]:
    """Wrap a call with a stream of responses in the same way; the stream ends soon after its key is revoked."""

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
    """Wait for the first message and return it, or `missing` without one; raises InvalidError if it does not arrive in time."""
    try:
        async with asyncio.timeout(FIRST_SECONDS):
            return await anext(requests, missing)
    except TimeoutError as error:
        raise InvalidError({"kind": [f"The first message must arrive within {FIRST_SECONDS:g} seconds."]}) from error


class CorruptRequests(grpc.aio.ServerInterceptor):
    """Passes an invalid protobuf message to its call as a DecodeError; gRPC itself would answer UNKNOWN."""

    async def intercept_service(self, continuation: Any, details: Any) -> Any:  # noqa: ANN401 - as gRPC has it
        """Wrap the parser of a call's request."""
        handler = await continuation(details)
        if handler is None or handler.request_streaming or not details.method.startswith(PREFIX):
            return handler
        parse = or_error(handler.request_deserializer)
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(handler.unary_stream, parse, handler.response_serializer)
        return grpc.unary_unary_rpc_method_handler(handler.unary_unary, parse, handler.response_serializer)


def or_error(parse: Callable[[bytes], Q]) -> Callable[[bytes], Q | DecodeError]:
    """Return a parser that returns a DecodeError instead of raising it."""

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
