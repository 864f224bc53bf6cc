"""What every call of gRPC passes: its caller is known, its errors are told, its first message is waited for."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from functools import wraps
from typing import Any, TypeAlias, TypeVar

import grpc

from upres.service.auth.api_keys import Keys
from upres.service.auth.rate_limit import Quota
from upres.service.domain.errors import InvalidError, UnauthenticatedError
from upres.service.jobs.service import Jobs
from upres.service.storage.job_store import Job
from upres.v2 import upscale_pb2 as pb

from .messages import job_of
from .status import status_of

FIRST_SECONDS = 30.0
KNOWN_SECONDS = 2.0  # for which a stream's key, once it was looked up, is taken to be in use

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
S = TypeVar("S", bound="Service")
Q = TypeVar("Q")
A = TypeVar("A")


class Service:
    """What the three services share: the jobs, who calls, and how often."""

    def __init__(self, jobs: Jobs, keys: Keys, quota: Quota) -> None:
        self.jobs = jobs
        self._keys = keys
        self._quota = quota

    async def owner(self, context: Context) -> str:
        """The name of the caller's key, and one call more of it. As `known`; BusyError where it calls too often."""
        owner = await self.known(context)
        self._quota.take(owner)
        return owner

    async def known(self, context: Context) -> str:
        """The name of the caller's key; UnauthenticatedError without one that is in use."""
        given = dict(context.invocation_metadata() or ()).get("authorization", "")
        scheme, _, secret = str(given).partition(" ")
        owner = await asyncio.to_thread(self._keys.owner, secret) if scheme.lower() == "bearer" else None
        if owner is None:
            raise UnauthenticatedError("the metadata must hold `authorization: Bearer KEY`, with a key that is in use")
        return owner

    async def told(self, job: Job) -> pb.Job:
        """A job as a message."""
        return job_of(job, self.jobs.source_offset(job))


def one(call: Callable[[S, Q, str], Awaitable[A]]) -> Callable[[S, Q, Context], Awaitable[A]]:
    """A call with one answer: its caller is known, its errors are told."""

    @wraps(call)
    async def told(self: S, request: Q, context: Context) -> A:
        try:
            return await call(self, request, await self.owner(context))
        except Exception as error:  # every error is told to the caller
            await context.abort_with_status(status_of(error))
            raise

    return told


def many(call: Callable[[S, Q, str], AsyncGenerator[A]]) -> Callable[[S, Q, Context], AsyncGenerator[A]]:
    """A call with a stream of answers, likewise; there are none any more once its key was revoked."""

    @wraps(call)
    async def told(self: S, request: Q, context: Context) -> AsyncGenerator[A]:
        try:
            async with aclosing(call(self, request, await self.owner(context))) as answers:
                known = time.monotonic()
                async for answer in answers:
                    if time.monotonic() > known + KNOWN_SECONDS:
                        await self.known(context)
                        known = time.monotonic()
                    yield answer
        except Exception as error:  # every error is told to the caller
            await context.abort_with_status(status_of(error))

    return told


async def first_of(requests: AsyncIterator[Q], missing: Q) -> Q:
    """The first message, or what stands for a missing one; InvalidError where it does not come in time."""
    try:
        async with asyncio.timeout(FIRST_SECONDS):
            return await anext(requests, missing)
    except TimeoutError as error:
        raise InvalidError({"kind": [f"The first message must come within {FIRST_SECONDS:g} seconds."]}) from error
