"""A store with jobs to notify about, a clock that advances only when nothing is in progress, and a receiver without a network."""

import asyncio
import json
import weakref

import databases
import pytest
import sqlalchemy as sa

from upres.service.domain import states
from upres.service.domain.request_id import new_id
from upres.service.storage.job_store import Job, Store
from upres.service.webhooks.deliveries import OPEN, Deliveries, Stage, table
from upres.service.webhooks.dispatcher import Webhooks
from upres.service.webhooks.egress import Allowed, Egress

SECRET = "s" * 31 + "\u00e9"


class Clock:
    """Stands still while attempts are in progress, then jumps to the next due time; ends `run` when nothing is due."""

    def __init__(self, deliveries):
        self.now = 1_000_000.5
        self.deliveries = deliveries

    def __call__(self):
        return self.now

    def goes_on_until_delivered(self, count):
        """From now on, advance a minute per wait even while attempts are in progress, until this many have arrived."""

        async def wait(event, seconds):
            self.now += 61
            if self.deliveries.counts()[Stage.DELIVERED] == count:
                raise asyncio.CancelledError
            await asyncio.sleep(0.001)

        self.wait = wait

    async def wait(self, event, seconds):
        unfinished = sa.select(table.c.stage, table.c.due_at).where(table.c.stage.in_(OPEN))
        with self.deliveries._store.transaction() as connection:
            rows = connection.execute(unfinished).all()
        if any(row.stage == Stage.SENDING for row in rows):
            async with asyncio.timeout(20):
                await event.wait()
        elif not rows:
            raise asyncio.CancelledError
        else:  # attempts in progress hold back those that are due
            self.now = min((row.due_at for row in rows if row.due_at > self.now), default=self.now)


class Posted:
    """A receiver without a network: returns the given statuses in turn, then repeats the last one."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.received = []

    async def __call__(self, url, headers, body):
        self.received.append((url, headers, json.loads(body)))
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    @property
    def events(self):
        return [(body["data"]["job_request_id"], headers["X-DeAPI-Event"]) for _, headers, body in self.received]


class Desk:
    """A store, its deliveries and its clock."""

    def __init__(self, url=None):
        self.store = Store(url or databases.fresh(), clock=lambda: self.clock.now)
        weakref.finalize(self, self.store.close)
        self.deliveries = Deliveries(self.store)
        self.clock = Clock(self.deliveries)

    def job(self, url="https://hooks.example/hook", secret=SECRET, owner="alice", accepted=True):
        spec = {"webhook_url": url, "webhook_secret": secret}
        return self.store.add(Job(new_id(), owner, spec, accepted=accepted))[0].request_id

    def done(self, **options):
        request_id = self.job(**options)
        self.store.change(request_id, states.started)
        self.clock.now += 2
        self.store.change(request_id, lambda state: states.progressed(state, 50))
        self.store.change(request_id, states.finished)
        return request_id

    def webhooks(self, post, **options):
        result_url = lambda job: f"https://upres.example/{job.request_id}.mp4?at={self.clock.now:.0f}"  # noqa: E731
        return Webhooks(self.deliveries, post, result_url=result_url, clock=self.clock, wait=self.clock.wait, **options)

    def run(self, post, **options):
        """Run until nothing is left to deliver."""
        with pytest.raises(asyncio.CancelledError):
            asyncio.run(self.webhooks(post, **options).run())


def local(**options):
    async def resolve(host, port):
        return ["127.0.0.1"]

    return Egress(resolve, Allowed(http=True, hosts=frozenset({"hooks.example"})), **options)
