"""Events are consistent with their jobs, even if something happens between reading both."""

import asyncio

import pytest
from ring_pieces import numbers, picture, ring

from upres.service.domain import states
from upres.service.domain.errors import NotFoundError
from upres.service.domain.request_id import new_id
from upres.service.jobs.change_events import Ledger
from upres.service.jobs.follow import follow_events, follow_live
from upres.service.live.piece import Piece
from upres.service.live.ring import Place
from upres.service.storage.job_store import Job, Store


class Racing:
    """Jobs whose next change happens just before or just after the row is read."""

    def __init__(self, before):
        self.store = Store.in_memory()
        self.ledger = Ledger(self.store)
        self.change = self.ledger.next
        self.before = before
        self.request_id = self.store.add(Job(new_id(), "alice", {}, accepted=True))[0].request_id
        self.changes = [states.started, lambda state: states.progressed(state, 50), states.finished]

    async def get(self, request_id, owner):
        if self.before:
            await self.happen()
        job = await self.ledger.get(request_id, owner)
        if not self.before:
            await self.happen()
        return job

    async def happen(self):
        if self.changes:
            await self.ledger.change(self.request_id, self.changes.pop(0))


@pytest.mark.parametrize("before", [True, False])
def test_every_event_is_told_once_and_no_job_is_older_than_its_event(before):
    jobs = Racing(before)

    async def scenario():
        return [item async for item in follow_events(jobs, jobs.request_id, "alice", 0)]

    items = asyncio.run(asyncio.wait_for(scenario(), 60))
    assert [event.kind for event, _ in items] == ["accepted", "processing", "progress", "done"]
    order = ["pending", "processing", "done"]
    assert all(order.index(job.state.status) >= order.index(event.status) for event, job in items)
    jobs.store.close()


def test_a_reader_of_a_live_job_who_is_behind_is_told_of_it_too(monkeypatch):
    monkeypatch.setattr("upres.service.jobs.follow.JOB_SECONDS", 0)
    jobs = Racing(before=True)

    async def scenario():
        log = ring()
        for number in range(3):
            await log.put(picture(number))
        log.end()
        return [item async for item in follow_live(jobs, jobs.request_id, "alice", Place(log))]

    items = asyncio.run(asyncio.wait_for(scenario(), 60))
    first, last = ([number for number, item in enumerate(items) if isinstance(item, Piece)][at] for at in (0, -1))
    assert numbers(items) == [0, 1, 2] and any(isinstance(item, Job) for item in items[first:last])
    jobs.store.close()


def test_a_job_that_is_deleted_does_not_take_what_its_readers_have_not_read(monkeypatch):
    monkeypatch.setattr("upres.service.jobs.follow.JOB_SECONDS", 0)
    jobs, items = Racing(before=True), []

    async def scenario():
        log = ring()
        for number in range(3):
            await log.put(picture(number))
        log.end()
        async for item in follow_live(jobs, new_id(), "alice", Place(log)):
            items.append(item)

    with pytest.raises(NotFoundError):
        asyncio.run(asyncio.wait_for(scenario(), 60))
    assert numbers(items) == [0, 1, 2]
    jobs.store.close()
