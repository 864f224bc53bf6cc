"""Steps of tests of jobs that are kept in an object store."""

from contextlib import aclosing

from upres.service.jobs.follow import follow
from upres.service.live.piece import Piece


def take_away(log):
    """Remove a log atomically, as it may be read at any time."""
    log.rename(log.with_name("away"))


async def pieces(jobs, request_id):
    """Return all fragments of a log, from its start to the job's end."""
    fragments = {}
    async with aclosing(follow(jobs, request_id, "alice", {})) as items:
        async for item in items:
            if isinstance(item, Piece):
                cursor = item.fragment.track, *item.fragment.cursor
                assert item.offset == len(fragments.get(cursor, b""))
                fragments[cursor] = fragments.get(cursor, b"") + item.data
    return fragments


def failing(monkeypatch, owner, name, errors):
    """Make a method raise these errors, one per call, before it works normally."""
    method = getattr(owner, name)

    async def first(*args, **kwargs):
        if errors:
            raise errors.pop(0)
        return await method(*args, **kwargs)

    monkeypatch.setattr(owner, name, first)
