"""Streams of a job's log, from a cursor on while the log grows, and of a job's events as they happen."""

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from math import inf

from upres.engine.segments.model import Fragment, Track
from upres.service.domain.errors import NotFoundError, OffsetError, ResultMissingError
from upres.service.domain.states import Status
from upres.service.domain.waiting import wait_for
from upres.service.live.piece import Cursors, Dropped, Piece
from upres.service.live.ring import Place
from upres.service.storage.job_store import Event, Job

from .kept.reader import JobLog
from .service import Jobs

WATCH_SECONDS = 10.0  # longest wait for a notification before events are read again
BEAT_SECONDS = 1.0  # between two reports of a job while nothing happens
PEER_POLL_SECONDS = 0.25  # between two reads of a log that another server writes
MOST_LATE = 2.0  # seconds that a viewer may lag behind a live job
JOB_SECONDS = 0.1  # minimum time between two reports of a job while fragments are published


def follow_job(
    jobs: Jobs, job: Job, cursors: Cursors, *, holds: bool = False, watches: bool = False
) -> AsyncGenerator[Track | Piece | Dropped | Job]:
    """Follow a job's log from the cursors on. holds: the reader is the one that a live job waits for.

    watches: the reader wants the newest frames of a live job, and none that are late if the job drops late frames.
    """
    relay = jobs.live(job.request_id)
    if relay is None:
        if job.spec.get("live"):
            cursors = {}  # the ring is gone, so the cursors refer to nothing
        return follow(jobs, job.request_id, job.owner, cursors)
    relay.ring.check(cursors)
    drops = job.spec["when_slow"] == "drop"
    most_late = (MOST_LATE if drops else inf) if watches else None
    place = (relay.ring.holder if holds else None) or Place(relay.ring, cursors, most_late=most_late, to_newest=drops)
    return follow_live(jobs, job.request_id, job.owner, place)


async def follow(jobs: Jobs, request_id: str, owner: str, cursors: Cursors) -> AsyncGenerator[Track | Piece | Job]:
    """Yield tracks and fragments after the cursors as they are published, and the job at least every second and at the end.

    Raises NotFoundError, LogError, ResultMissingError if the log of an ended job is no longer kept, OffsetError if a cursor lies
    beyond the end of a log that has ended, UnavailableError if the object store is unavailable.
    """
    log = jobs.keeper.log(request_id)
    last: dict[str, tuple[int, int]] = {}
    reported = 0.0
    job = await jobs.get(request_id, owner)
    if job.state.status is Status.DONE and not job.spec.get("live") and not await log.exists(job):
        raise ResultMissingError("the log is no longer kept; read the joined file instead")
    while True:
        event = jobs.change(request_id)
        job = await jobs.get(request_id, owner)
        async with aclosing(log.news(job)) as news:
            async for item in news:
                if isinstance(item, Track):
                    yield item
                    continue
                last[item.track] = item.cursor
                if item.track not in cursors or last[item.track] > cursors[item.track]:
                    async with aclosing(_pieces(log, item)) as pieces:
                        async for piece in pieces:
                            yield piece
                if not job.state.ended and time.monotonic() > reported + BEAT_SECONDS:  # skipping to a cursor is slow
                    reported = time.monotonic()
                    yield job
        if job.state.ended:
            if job.state.status is Status.DONE or not jobs.keeper.uses_object_store:
                _check(cursors, last)  # not of a failed job: the last fragments may not have been stored
            yield job
            return
        if time.monotonic() > reported + JOB_SECONDS:
            reported = time.monotonic()
            yield job
        # A log that another server writes to the shared folder is polled; in an object store each look would cost a request.
        polls = job.server != jobs.store.server and not jobs.keeper.uses_object_store
        await wait_for(event, PEER_POLL_SECONDS if polls else BEAT_SECONDS)


async def _pieces(log: JobLog, fragment: Fragment) -> AsyncGenerator[Piece]:
    offset = 0
    async with aclosing(log.parts(fragment)) as parts:
        async for data in parts:
            yield Piece(fragment, data, offset)
            offset += len(data)


async def follow_live(
    jobs: Jobs, request_id: str, owner: str, place: Place
) -> AsyncGenerator[Track | Piece | Dropped | Job]:
    """Yield what `follow` does for a live job, from a position in its ring; lost fragments are reported as Dropped."""
    ring, reported = place.ring, 0.0
    while True:
        changed, ended = ring.changed, ring.ended
        if (item := place.next()) is not None:
            yield item
        elif ended:
            break
        if time.monotonic() > reported + JOB_SECONDS:  # also to a reader that lags behind
            reported = time.monotonic()
            try:
                job = await jobs.get(request_id, owner)
            except NotFoundError:  # deleted; the ring's fragments can still be read
                pass
            else:
                yield job
        if item is None:
            await wait_for(changed, BEAT_SECONDS)
    while True:
        event = jobs.change(request_id)
        job = await jobs.get(request_id, owner)
        yield job
        if job.state.ended:
            return
        await wait_for(event, BEAT_SECONDS)


async def follow_events(jobs: Jobs, request_id: str, owner: str, cursor: int) -> AsyncGenerator[tuple[Event, Job]]:
    """Yield the events after a cursor until the last one of an ended job, each with the job as of that event or later."""
    ended = False
    while True:
        change = jobs.change(request_id)
        batch = await asyncio.to_thread(jobs.store.events, cursor, request_id=request_id)
        job = await jobs.get(request_id, owner)
        for event in batch:
            cursor = event.cursor
            yield event, job
        if ended and not batch:
            return
        ended = job.state.ended  # its last event may have been recorded after the events were read
        if not ended:
            await wait_for(change, WATCH_SECONDS)


def _check(cursors: Cursors, last: Mapping[str, tuple[int, int]]) -> None:
    ahead = [track for track, cursor in cursors.items() if cursor > last.get(track, (-1, -1))]
    if ahead:
        ends = ", ".join(f"{track} ends with segment {segment}" for track, (segment, _) in last.items())
        raise OffsetError(f"the cursor of {', '.join(ahead)} is beyond the end of the log ({ends or 'it is empty'})")
