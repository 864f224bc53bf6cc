"""Webhooks: what happened to a job told to its owner's server; durable, signed, and never in a job's way."""

import asyncio
import hmac
import json
import logging
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import httpx

from . import answers
from .errors import NotFoundError
from .schema import deliveries, meta
from .store import Event, Job, Store
from .target import ForbiddenError, Rules

EVENTS = {"processing": "job.processing", "done": "job.completed", "error": "job.failed"}
MINUTE, HOUR = 60, 3600
WAITS = (1 * MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE, 30 * MINUTE, 1 * HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR)
ANSWER_SECONDS = 10.0
POLL_SECONDS = 0.5
AT_ONCE = 16
CURSOR = "webhook_cursor"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Delivery:
    """One thing to tell. attempts: made so far. due_at: when the next one is; None when there is none."""

    delivery_id: str
    request_id: str
    status: str
    previous: str | None
    attempts: int
    due_at: float | None


class Webhooks:
    """rules: where they may go. result_url: a fresh link to a job's result. clock: Unix seconds."""

    def __init__(
        self, store: Store, rules: Rules, result_url: Callable[[Job], str], clock: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self._rules = rules
        self._result_url = result_url
        self._clock = clock
        self._client = httpx.AsyncClient(timeout=ANSWER_SECONDS, trust_env=False)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to deliver, with what was left."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Stop; what was not delivered is, after the next start."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._client.aclose()

    async def step(self) -> int:
        """Note what has happened, make every delivery that is due, and give how many there were."""
        await asyncio.to_thread(self._collect)
        due = await asyncio.to_thread(self._due)
        await asyncio.gather(*(self._deliver(delivery) for delivery in due))
        return len(due)

    async def _run(self) -> None:
        while True:
            try:
                made = await self.step()
            except Exception:  # whatever it is, the next step may go well
                logger.exception("webhooks")
                made = 0
            if not made:
                await asyncio.sleep(POLL_SECONDS)

    def _collect(self) -> None:
        """Events since the last time become deliveries; both in one transaction, so that each becomes one once."""
        cursor = int(self._store.meta(CURSOR, lambda: "0"))
        events = self._store.events(cursor)
        wanted = [event for event in events if event.kind in EVENTS and self._hook(event)]
        if not events:
            return
        with self._store.transaction() as connection:
            for event in wanted:
                connection.execute(deliveries.insert().values(self._row(event)))
            connection.execute(meta.update().where(meta.c.name == CURSOR).values(value=str(events[-1].cursor)))

    def _hook(self, event: Event) -> bool:
        try:
            return bool(self._store.get(event.request_id).spec["webhook_url"])
        except NotFoundError:
            return False

    def _row(self, event: Event) -> dict[str, Any]:
        return {
            "delivery_id": str(uuid.uuid5(uuid.UUID(event.request_id), str(event.cursor))),
            "request_id": event.request_id,
            "status": event.status,
            "previous": event.previous,
            "attempts": 0,
            "due_at": self._clock(),
        }

    def _due(self) -> list[Delivery]:
        query = deliveries.select().where(deliveries.c.due_at <= self._clock()).order_by(deliveries.c.due_at)
        with self._store.transaction() as connection:
            return [Delivery(**row) for row in connection.execute(query.limit(AT_ONCE)).mappings()]

    async def _deliver(self, delivery: Delivery) -> None:
        try:
            job = await asyncio.to_thread(self._store.get, delivery.request_id)
        except NotFoundError:
            return await asyncio.to_thread(self._note, delivery, None)
        attempts = delivery.attempts + 1
        problem = await self._post(job, delivery)
        over = problem is None or attempts > len(WAITS)
        due = None if over else self._clock() + WAITS[attempts - 1]
        if problem is not None:
            logger.warning("%s: webhook attempt %d failed: %s", job.request_id, attempts, problem)
        return await asyncio.to_thread(self._note, delivery, due)

    async def _post(self, job: Job, delivery: Delivery) -> str | None:
        """Make one attempt; what went wrong, if anything."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                pinned = await self._rules.pin(str(job.spec["webhook_url"]))
                body = json.dumps(self._body(job, delivery)).encode()
                headers = {**self._headers(job, delivery, body), "Host": pinned.host}
                name = {"sni_hostname": pinned.name}
                request = self._client.stream("POST", pinned.url, content=body, headers=headers, extensions=name)
                async with request as answer:
                    return None if answer.is_success else f"HTTP {answer.status_code}"
        except (httpx.HTTPError, ForbiddenError, TimeoutError) as error:
            return f"{type(error).__name__} {error}".strip()

    def _headers(self, job: Job, delivery: Delivery, body: bytes) -> dict[str, str]:
        stamp = str(int(self._clock()))
        secret = job.spec["webhook_secret"]
        return {
            "Content-Type": "application/json",
            "X-DeAPI-Event": EVENTS[delivery.status],
            "X-DeAPI-Delivery-Id": delivery.delivery_id,
            "X-DeAPI-Timestamp": stamp,
            "X-DeAPI-Signature": signature(secret, stamp, body) if secret else "",
        }

    def _body(self, job: Job, delivery: Delivery) -> dict[str, Any]:
        data: dict[str, Any] = {
            "job_request_id": job.request_id,
            "status": delivery.status,
            "previous_status": delivery.previous,
            "job_type": "vid-upscale",
        }
        if delivery.status == "processing":
            data["started_at"] = answers.moment(job.started_at)
        if delivery.status == "done":
            spent = round(1000 * ((job.ended_at or 0) - (job.started_at or 0)))
            data |= {"completed_at": answers.moment(job.ended_at), "result_url": self._result_url(job)}
            data["processing_time_ms"] = spent
        if delivery.status == "error":
            told = answers.job(job, preview=None, result_url=None)
            fields = ("failed_at", "error_code", "error_message", "error_reason", "retryable", "refunded")
            data |= {name: told[name] for name in fields}
        now = datetime.fromtimestamp(self._clock(), UTC).isoformat(timespec="seconds")
        return {"event": EVENTS[delivery.status], "delivery_id": delivery.delivery_id, "timestamp": now, "data": data}

    def _note(self, delivery: Delivery, due: float | None) -> None:
        query = deliveries.update().where(deliveries.c.delivery_id == delivery.delivery_id)
        with self._store.transaction() as connection:
            connection.execute(query.values(attempts=delivery.attempts + 1, due_at=due))


def signature(secret: str, stamp: str, body: bytes) -> str:
    """HMAC-SHA256 over the timestamp, a point, and exactly the bytes that are sent."""
    return "sha256=" + hmac.new(secret.encode(), stamp.encode() + b"." + body, sha256).hexdigest()
