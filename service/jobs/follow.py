"""A job's log read from a cursor while it grows, and the events of a job as they happen."""

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

WATCH_SECONDS = 10.0  # between two looks where nothing is published
BEAT_SECONDS = 1.0  # between two reports of a job, where nothing happens
AWAY_SECONDS = 0.25  # between two looks at what another server makes
MOST_LATE = 2.0  # seconds that who watches may be behind
JOB_SECONDS = 0.1  # between two reports of a job, however many fragments come in between


def followed(
    jobs: Jobs, job: Job, cursors: Cursors, *, holds: bool = False, watches: bool = False
) -> AsyncGenerator[Track | Piece | Dropped | Job]:
    """Follow a job's log from cursors on. holds: the reader is the one that a live job may wait for.

    watches: it wants what is newest of a live job, and nothing that is late where late frames are left out.
    """
    relay = jobs.live(job.request_id)
    if relay is None:
        if job.spec.get("live"):
            cursors = {}  # nothing is left to stand in
        return follow(jobs, job.request_id, job.owner, cursors)
    relay.ring.check(cursors)
    most_late = (MOST_LATE if job.spec["when_slow"] == "drop" else inf) if watches else None
    place = (relay.ring.holder if holds else None) or Place(relay.ring, cursors, most_late=most_late)
    return follow_live(jobs, job.request_id, job.owner, place)


async def follow(jobs: Jobs, request_id: str, owner: str, cursors: Cursors) -> AsyncGenerator[Track | Piece | Job]:
    """Yield tracks and fragments behind the cursors as they are published; the job at times, each second at least, and at last.

    Raises NotFoundError, LogError, ResultMissingError where the log of an ended job is no longer kept, OffsetError where a
    cursor lies behind the end of a log that has ended, UnavailableError where the store of jobs is away.
    """
    log = jobs.keeper.log(request_id)
    last: dict[str, tuple[int, int]] = {}
    reported = 0.0
    job = await jobs.get(request_id, owner)
    if job.state.status is Status.DONE and not job.spec.get("live") and not await log.is_there(job):
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
                if (
                    not job.state.ended and time.monotonic() > reported + BEAT_SECONDS
                ):  # to look for a cursor may take long
                    reported = time.monotonic()
                    yield job
        if job.state.ended:
            if (
                job.state.status is Status.DONE or not jobs.keeper.apart
            ):  # what one that failed had last may not be stored
                _check(cursors, last)
            yield job
            return
        if time.monotonic() > reported + JOB_SECONDS:
            reported = time.monotonic()
            yield job
        beats = job.server == jobs.store.server or jobs.keeper.apart  # to look into the store costs a request
        await wait_for(event, BEAT_SECONDS if beats else AWAY_SECONDS)


async def _pieces(log: JobLog, fragment: Fragment) -> AsyncGenerator[Piece]:
    offset = 0
    async with aclosing(log.parts(fragment)) as parts:
        async for data in parts:
            yield Piece(fragment, data, offset)
            offset += len(data)


async def follow_live(
    jobs: Jobs, request_id: str, owner: str, place: Place
) -> AsyncGenerator[Track | Piece | Dropped | Job]:
    """Do the same for a live job, from a place in its ring; what was lost on the way is reported where it is missing."""
    ring, reported = place.ring, 0.0
    while True:
        changed, ended = ring.changed, ring.ended
        if (item := place.next()) is not None:
            yield item
        elif ended:
            break
        if time.monotonic() > reported + JOB_SECONDS:  # a reader who is behind wants to know it too
            reported = time.monotonic()
            try:
                job = await jobs.get(request_id, owner)
            except NotFoundError:  # deleted, which does not take what the ring holds
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


async def happenings(jobs: Jobs, request_id: str, owner: str, cursor: int) -> AsyncGenerator[tuple[Event, Job]]:
    """Yield events behind a cursor, each with the job as it is by then or later, until it has ended and all were yielded."""
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
        ended = job.state.ended  # its last event may have come since the events were read
        if not ended:
            await wait_for(change, WATCH_SECONDS)


def _check(cursors: Cursors, last: Mapping[str, tuple[int, int]]) -> None:
    ahead = [track for track, cursor in cursors.items() if cursor > last.get(track, (-1, -1))]
    if ahead:
        there = ", ".join(f"{track} ends with segment {segment}" for track, (segment, _) in last.items())
        raise OffsetError(f"the cursor of {', '.join(ahead)} lies behind the log's end ({there or 'it is empty'})")
