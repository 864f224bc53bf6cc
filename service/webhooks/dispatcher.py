"""Webhooks: each change of a job is sent to its owner's URL by a signed POST, in order, until it has arrived.

A job never waits for one: they are read from the event log. An event arrives at least once, under one delivery id, and never
after a later one of the same job. Where an attempt fails it is made again, ten times in all, over 23 hours.
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
POLL_SECONDS = 1.0  # the longest an event waits to be seen, where nobody says that there is one
SWEEP_SECONDS = 3600.0

Post = Callable[[str, Mapping[str, str], bytes], Awaitable[int]]
Wait = Callable[[asyncio.Event, float], Awaitable[None]]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Most:
    """How many attempts may be made at one time: in all, to one receiver, and for one API key."""

    attempts: int = 32
    receiver: int = 4
    owner: int = 16


class Webhooks:
    """Sends events of jobs while `run` runs.

    post: sends bytes to a URL once and gives the status, or raises an UpresError. result_url: an absolute, signed URL of the
    result of a request_id, made again for each attempt.
    """

    def __init__(
        self,
        deliveries: Deliveries,
        post: Post,
        *,
        result_url: Callable[[Job], str],
        most: Most | None = None,
        clock: Callable[[], float] = time.time,
        wait: Wait = wait_for,
    ) -> None:
        self._deliveries = deliveries
        self._post = post
        self._result_url = result_url
        self._most = most or Most()
        self._clock = clock
        self._wait = wait
        self._news = asyncio.Event()
        self._running: dict[str, Delivery] = {}  # by job: one at a time keeps them in order

    def wake(self) -> None:
        """Look for events now. Nothing is lost without it, it only comes later."""
        self._news.set()

    async def run(self) -> None:
        """Work until cancelled. What is on its way then is made again after the next start."""
        swept, recovered = float("-inf"), False
        async with asyncio.TaskGroup() as group:
            while True:
                self._news.clear()
                try:
                    if not recovered:
                        await asyncio.to_thread(self._deliveries.recover, self._clock())
                        recovered = True
                    if self._clock() >= swept + SWEEP_SECONDS:
                        swept = self._clock()
                        await asyncio.to_thread(self._deliveries.sweep)
                    await asyncio.to_thread(self._deliveries.collect)
                    while delivery := await self._claim():
                        self._running[delivery.request_id] = delivery
                        group.create_task(self._attempt(delivery))
                except StoreError:  # a full disk, a locked database: it may pass
                    logger.exception("webhooks cannot be read from the database; trying again")
                await self._wait(self._news, POLL_SECONDS)

    async def _claim(self) -> Delivery | None:
        if len(self._running) >= self._most.attempts:
            return None
        receivers = Counter(delivery.receiver for delivery in self._running.values())
        owners = Counter(delivery.owner for delivery in self._running.values())
        return await asyncio.to_thread(
            self._deliveries.claim,
            self._clock(),
            busy=[*self._running],
            receivers=[name for name, count in receivers.items() if count >= self._most.receiver],
            owners=[name for name, count in owners.items() if count >= self._most.owner],
        )

    async def _attempt(self, delivery: Delivery) -> None:
        """One attempt and its outcome. Whatever goes wrong here stays here: it was counted, and will be due again."""
        job_logging.bind_job_id(delivery.request_id)
        try:
            problem = await self._send(delivery)
            if problem is None:
                await asyncio.to_thread(self._deliveries.delivered, delivery)
            else:
                again = await asyncio.to_thread(self._deliveries.missed, delivery, problem, self._clock())
                level, then = (logging.INFO, "will be") if again else (logging.WARNING, "is not")
                values = (delivery.delivery_id, delivery.receiver, delivery.attempts, problem, then)
                logger.log(level, "webhook %s to %s, attempt %d: %s; it %s tried again", *values)
        except Exception:
            logger.exception("webhook %s", delivery.delivery_id)
        finally:
            del self._running[delivery.request_id]
            self.wake()

    async def _send(self, delivery: Delivery) -> str | None:
        """Send it once; None where it has arrived or its job is deleted, else what went wrong."""
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
    """Make what X-DeAPI-Signature carries; timestamp: the text in X-DeAPI-Timestamp; body: the very bytes sent."""
    return "sha256=" + hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def payload(job: Job, delivery: Delivery, result_url: str | None) -> dict[str, Any]:
    """Make the body that reports an event: what the job was then, and when that was."""
    event, at = EVENTS[Status(delivery.kind)], schemas.moment(delivery.at)
    data: dict[str, Any] = {"job_request_id": job.request_id, "status": delivery.kind}
    data |= {"previous_status": delivery.previous, "job_type": JOB_TYPE}
    if delivery.kind == Status.PROCESSING:
        data["started_at"] = at
    elif delivery.kind == Status.DONE:
        milliseconds = round((delivery.at - (job.started_at or delivery.at)) * 1000)
        data |= {"completed_at": at, "result_url": result_url, "processing_time_ms": milliseconds}
    else:
        data |= schemas.job_status(job, preview=None, result_url=None).model_dump(include=set(FAILURE))
    return {"event": event, "delivery_id": delivery.delivery_id, "timestamp": at, "data": data}


async def url_problems(egress: Egress, url: str | None) -> dict[str, list[str]]:
    """Find what is wrong with the webhook URL of a request, by field; empty if nothing is.

    One that cannot be resolved now is taken: it may be later, and is checked again at every attempt.
    """
    try:
        if url is not None:
            await egress.addresses(egress.parse(url))
    except RefusedError as error:
        return {"webhook_url": [str(error)]}
    except UnreachableError as error:
        logger.info("a webhook URL is taken although %s", error)
    return {}
