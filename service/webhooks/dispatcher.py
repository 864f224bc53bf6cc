"""Webhook dispatcher: sends each status change of a job to its owner's URL by a signed POST, in order, until it is delivered.

Jobs never wait for webhooks, which are read from the event log. An event is delivered at least once, always with the same delivery
id, and never after a later event of the same job. A failed attempt is retried, up to ten attempts over 23 hours.
"""

import asyncio
import hashlib
import hmac
import json
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from upres.engine.core.errors import UpresError
from upres.service.api.http import schemas
from upres.service.domain import job_logging
from upres.service.domain.errors import StoreError
from upres.service.domain.states import Status
from upres.service.domain.waiting import wait_for
from upres.service.storage.job_store import Job

from .deliveries import EVENTS, Deliveries, Delivery
from .egress import Egress, RefusedError, UnreachableError

JOB_TYPE = "vid-upscale"
FAILURE = ("failed_at", "error_code", "error_message", "error_reason", "retryable", "refunded")
POLL_SECONDS = 1.0  # longest delay until an event is noticed without `wake`
SWEEP_SECONDS = 3600.0

Post = Callable[[str, Mapping[str, str], bytes], Awaitable[int]]
Wait = Callable[[asyncio.Event, float], Awaitable[None]]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ConcurrencyLimits:
    """Maximum number of concurrent attempts: in total, per receiver, and per API key."""

    attempts: int = 32
    receiver: int = 4
    owner: int = 16


class Webhooks:
    """Sends events of jobs while `run` runs.

    post: sends bytes to a URL once and returns the HTTP status, or raises an UpresError. result_url: returns an absolute, signed
    URL of a job's result; called for each attempt.
    """

    def __init__(
        self,
        deliveries: Deliveries,
        post: Post,
        *,
        result_url: Callable[[Job], str],
        limits: ConcurrencyLimits | None = None,
        clock: Callable[[], float] = time.time,
        wait: Wait = wait_for,
    ) -> None:
        self._deliveries = deliveries
        self._post = post
        self._result_url = result_url
        self._limits = limits or ConcurrencyLimits()
        self._clock = clock
        self._wait = wait
        self._wake = asyncio.Event()
        self._running: dict[str, Delivery] = {}  # by job: one delivery at a time keeps a job's events in order

    def wake(self) -> None:
        """Look for events now, without waiting for the next poll."""
        self._wake.set()

    async def run(self) -> None:
        """Dispatch until cancelled. Attempts that are running then are repeated after the next start."""
        swept, recovered = float("-inf"), False
        async with asyncio.TaskGroup() as group:
            while True:
                self._wake.clear()
                try:
                    if not recovered:
                        await self._deliveries.write(self._deliveries.recover, self._clock())
                        recovered = True
                    if self._clock() >= swept + SWEEP_SECONDS:
                        swept = self._clock()
                        await self._deliveries.write(self._deliveries.sweep)
                    await self._deliveries.write(self._deliveries.collect)
                    while delivery := await self._claim():
                        self._running[delivery.request_id] = delivery
                        group.create_task(self._attempt(delivery))
                except StoreError:  # a full disk or a locked database may be temporary
                    logger.exception("webhooks cannot be read from the database; retrying")
                await self._wait(self._wake, POLL_SECONDS)

    async def _claim(self) -> Delivery | None:
        if len(self._running) >= self._limits.attempts:
            return None
        receivers = Counter(delivery.receiver for delivery in self._running.values())
        owners = Counter(delivery.owner for delivery in self._running.values())
        return await self._deliveries.write(
            self._deliveries.claim,
            self._clock(),
            busy=[*self._running],
            receivers=[name for name, count in receivers.items() if count >= self._limits.receiver],
            owners=[name for name, count in owners.items() if count >= self._limits.owner],
        )

    async def _attempt(self, delivery: Delivery) -> None:
        """Make an attempt and store its outcome. Errors are only logged: the attempt was counted, and becomes due again."""
        job_logging.bind_job_id(delivery.request_id)
        try:
            problem = await self._send(delivery)
            if problem is None:
                await self._deliveries.write(self._deliveries.mark_delivered, delivery)
            else:
                again = await self._deliveries.write(self._deliveries.mark_failed, delivery, problem, self._clock())
                level, then = (logging.INFO, "will be") if again else (logging.WARNING, "is not")
                values = (delivery.delivery_id, delivery.receiver, delivery.attempts, problem, then)
                logger.log(level, "webhook %s to %s, attempt %d: %s; it %s retried", *values)
        except Exception:
            logger.exception("webhook %s", delivery.delivery_id)
        finally:
            del self._running[delivery.request_id]
            self.wake()

    async def _send(self, delivery: Delivery) -> str | None:
        """Send a delivery once; return None if it was delivered or its job was deleted, otherwise the problem."""
        job = await asyncio.to_thread(self._deliveries.job, delivery)
        if job is None:
            return None
        result_url = self._result_url(job) if delivery.kind == Status.DONE else None
        body = json.dumps(payload(job, delivery, result_url)).encode()
        secret = job.spec.get("webhook_secret")
        timestamp = str(int(self._clock()))
        headers = {
            "Content-Type": "application/json",
            "X-DeAPI-Signature": signature(secret, timestamp, body) if secret else "",
            "X-DeAPI-Timestamp": timestamp,
            "X-DeAPI-Event": EVENTS[Status(delivery.kind)],
            "X-DeAPI-Delivery-Id": delivery.delivery_id,
        }
        try:
            status = await self._post(job.spec["webhook_url"], headers, body)
        except UpresError as error:
            return str(error)
        return None if 200 <= status < 300 else f"answered {status}"


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """Return the value of X-DeAPI-Signature. timestamp: the value of X-DeAPI-Timestamp. body: the exact bytes sent."""
    return "sha256=" + hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def payload(job: Job, delivery: Delivery, result_url: str | None) -> dict[str, Any]:
    """Return the JSON body for an event: the job's status at that time."""
    event, at = EVENTS[Status(delivery.kind)], schemas.moment(delivery.at)
    data: dict[str, Any] = {"job_request_id": job.request_id, "status": delivery.kind}
    data |= {"previous_status": delivery.previous, "job_type": JOB_TYPE}
    if delivery.kind == Status.PROCESSING:
        data["started_at"] = at
    elif delivery.kind == Status.DONE:
        milliseconds = round(max(0.0, delivery.at - (job.started_at or delivery.at)) * 1000)
        data |= {"completed_at": at, "result_url": result_url, "processing_time_ms": milliseconds}
    else:
        data |= schemas.job_status(job, preview=None, result_url=None).model_dump(include=set(FAILURE))
    return {"event": event, "delivery_id": delivery.delivery_id, "timestamp": at, "data": data}


async def url_problems(egress: Egress, url: str | None) -> dict[str, list[str]]:
    """Return the problems of a request's webhook URL by field; empty if it is valid.

    A host that cannot be resolved now is accepted: it is checked again at every attempt.
    """
    try:
        if url is not None:
            await egress.addresses(egress.parse(url))
    except RefusedError as error:
        return {"webhook_url": [str(error)]}
    except UnreachableError as error:
        logger.info("a webhook URL is accepted although %s", error)
    return {}
