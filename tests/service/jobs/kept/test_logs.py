"""Logs in an object store: their upload while they are written, and their reading."""

import asyncio
from types import SimpleNamespace

import pytest

from upres.engine.segments.folder import FolderLog
from upres.engine.segments.model import Fragment, Track
from upres.service.domain.errors import UnavailableError
from upres.service.jobs.change_events import Ledger
from upres.service.jobs.kept import logs
from upres.service.storage.kept import copies, object_keys
from upres.service.storage.kept.tail import KeptTail


class Rows(Ledger):
    """Row of a job, with the generations of its log."""

    async def get(self, request_id, owner=None):
        return SimpleNamespace(kept={})

    async def change(self, request_id, *columns, **named):
        """Change the row, which this server owns."""


@pytest.fixture
def log(folder):
    log = FolderLog(folder.log, {})
    log.add_track(Track("video", "h264", 1, 0, b"init"))
    yield log
    log.close()


def add(log, number):
    log.append(Fragment("video", number, 0, number, 1, 1), b"fragment")


def test_fragments_that_come_one_soon_after_the_other_are_one_object(log, tmp_path, store, monkeypatch):
    """Each wakes the readers of the log, but not its upload."""
    monkeypatch.setattr(logs, "GATHER_SECONDS", 1000.0)
    monkeypatch.setattr(logs, "LONGEST_GATHER", 1000.0)

    async def scenario():
        rows = Rows(None)
        kept = logs.KeptLogs(rows, tmp_path / "jobs", store, "p/")
        kept.follow("a")
        for number in range(50):
            add(log, number)
            rows.publish("a")
            await asyncio.sleep(0.01)
        kept.unfollow("a")
        await asyncio.gather(*kept._tasks.values())
        line = object_keys.chain(await copies.list_parts(store, object_keys.log("p/", "a")))
        assert len(line) <= 2 and line[-1].end == (tmp_path / "jobs" / "a" / "log" / "index.jsonl").stat().st_size

    asyncio.run(scenario())


@pytest.mark.parametrize("part", [8 << 20, 1])
def test_fragments_are_gathered_for_longer_the_more_objects_there_are(log, tmp_path, store, monkeypatch, part):
    """Except when there is enough for a full object, which is uploaded at once."""
    monkeypatch.setattr(logs, "MANY", 4)
    monkeypatch.setattr(copies, "PART", part)
    waits = []

    async def waited(attempt_ended, seconds):
        if not waits or waits[-1] < logs.LONGEST_GATHER:
            waits.append(seconds)
            for number in range(2):
                add(log, 2 * len(waits) + number)
        else:
            attempt_ended.set()

    monkeypatch.setattr(logs, "wait_for", waited)

    async def scenario():
        kept = logs.KeptLogs(Rows(None), tmp_path / "jobs", store, "p/")
        kept.follow("a")
        await asyncio.gather(*kept._tasks.values())

    asyncio.run(scenario())
    assert waits[-1] == logs.LONGEST_GATHER == 10.0
    if part > 1:  # the number of objects at each wait
        assert waits == [max(1.0, number / 4) for number in range(1, 41)]
    else:
        assert waits == [max(1.0, (2 * number + 1) / 4) for number in range(20)] + waits[20:]


def test_a_log_in_the_store_is_read_from_its_first_objects_while_the_others_are_fetched(
    log, tmp_path, store, monkeypatch
):
    monkeypatch.setattr(copies, "PART", 1)
    read, fetched = store.read, []

    def noted(key, start=0, end=None):
        fetched.append(key)
        return read(key, start, end)

    async def scenario():
        kept = logs.KeptLogs(Rows(None), tmp_path / "jobs", store, "p/")
        for number in range(30):
            add(log, number)
        kept.follow("a")
        await kept.finish("a", None)
        kept.unfollow("a")
        await asyncio.gather(*kept._tasks.values())
        monkeypatch.setattr(store, "read", noted)
        place = object_keys.log("p/", "a")
        tail = KeptTail(store, place, [(copies.read_generation(tmp_path / "jobs" / "a" / "log"), None)])
        items = tail.news()
        assert isinstance(await anext(items), Track) and len(fetched) < 30
        numbers = []
        async for item in items:
            numbers.append(item.segment)
            assert b"".join([data async for data in tail.parts(item)]) == b"fragment"
        assert numbers == [*range(30)]

    asyncio.run(scenario())


def test_what_was_read_of_a_log_is_not_listed_again(store, monkeypatch):
    place, kept, listed, counts = "p/a/log/", [("one", 20), ("two", None)], store.list_objects, []

    async def noted(*args):
        objects = await listed(*args)
        counts.append(len(objects))
        return objects

    async def stored(name, number):
        line = b'{"track": "video", "segment": %3d, "fragment": 0}\n' % number
        await store.write(
            object_keys.key(f"{place}{name}/", 10 * number, 10 * number + 10), lambda: iter([line]), len(line)
        )

    async def scenario():
        tail = KeptTail(store, place, kept)
        monkeypatch.setattr(tail, "_parse_part", lambda part, head: setattr(tail, "_end", part.end) or [part.start])
        for number in range(20):
            await stored("one" if number < 2 else "two", number)
        await stored("one", 2)  # by a server that came back too late
        assert [item async for item in tail.news()] == [*range(0, 200, 10)]
        monkeypatch.setattr(store, "list_objects", noted)
        assert [item async for item in tail.news()] == []
        await stored("two", 20)
        assert [item async for item in tail.news()] == [200] and counts == [0, 1]
        await stored("two", 22)  # and what comes before it is in an object that begins before the last one ends
        with pytest.raises(UnavailableError, match="stored again"):
            await anext(tail.news())

    asyncio.run(scenario())
