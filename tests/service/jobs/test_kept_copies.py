"""Uploads of sources and logs to the object store, also of jobs that end meanwhile."""

import asyncio
from types import SimpleNamespace

import obstore
import pytest
from running_jobs import SPEC, serving

from upres.engine.core.errors import TargetError
from upres.engine.segments.folder import FolderLog
from upres.engine.segments.model import Fragment, Track
from upres.service.domain.errors import UnavailableError
from upres.service.jobs.change_events import Ledger
from upres.service.jobs.kept import logs, sources
from upres.service.storage import results as results_module
from upres.service.storage.job_folder import JobFolder
from upres.service.storage.kept import copies, downloads, object_keys
from upres.service.storage.kept.tail import KeptTail
from upres.service.storage.results import Results


@pytest.fixture
def store():
    return Results("memory://", "job")


@pytest.fixture
def folder(tmp_path):
    """Create the folder of a job whose source has four bytes."""
    folder = JobFolder(tmp_path / "jobs" / "a")
    folder.make()
    folder.append(0, b"four")
    return folder


@pytest.fixture
def copied(tmp_path, store):
    return sources.KeptSources(tmp_path / "jobs", store, "p/")


def test_a_source_of_many_parts_has_its_time_for_each_of_them(folder, copied, monkeypatch):
    monkeypatch.setattr(copies, "LARGEST_SOURCE_PART", 1)
    monkeypatch.setattr(sources, "STALL_SECONDS", 1000.0)

    async def scenario():
        limits, loop = [], asyncio.get_running_loop()
        with monkeypatch.context() as patch:
            patch.setattr(asyncio.Timeout, "reschedule", lambda self, when: limits.append(when - loop.time()))
            whole = await copied.finish("a")
        assert whole["source"]["bytes"] == 4
        assert sum(seconds > 500 for seconds in limits) == 1 + 4

    asyncio.run(scenario())


@pytest.mark.parametrize("small", [5 << 20, 0])
@pytest.mark.parametrize("step", ["on_bytes", "finish"])
def test_a_source_whose_job_ends_while_it_is_read_is_no_fault(folder, store, copied, monkeypatch, caplog, small, step):
    monkeypatch.setattr(results_module, "SMALL", small)
    monkeypatch.setattr(sources, "GATHER_SECONDS", 0.0)
    monkeypatch.setattr(sources, "FIRST_PAUSE", 0.0)
    write = store.write

    async def removed(key, chunks, size):
        folder.remove_media()
        await write(key, chunks, size)

    async def scenario():
        monkeypatch.setattr(store, "write", removed)
        if step == "finish":
            assert await copied.finish("a") == {}
        else:
            copied.on_bytes("a")
            (flush,) = copied._flushes.values()
            await flush
            assert not copied._copies and not copied._flushes
        assert await store.list_objects("p/") == []

    asyncio.run(scenario())
    assert "Traceback" not in caplog.text


def test_no_more_of_a_source_is_stored_whose_job_ended_while_the_store_was_away(folder, store, copied, monkeypatch):
    monkeypatch.setattr(sources, "FIRST_PAUSE", 0.0)

    async def away(key, chunks, size):
        raise TargetError("it is away")

    async def scenario():
        monkeypatch.setattr(store, "write", away)
        whole = asyncio.create_task(copied.finish("a"))
        await asyncio.sleep(0.01)
        copied.forget("a")  # its source is removed later
        assert await asyncio.wait_for(whole, 60) == {}

    asyncio.run(scenario())


def test_what_is_being_stored_as_its_job_is_deleted_is_removed_for_good(tmp_path, store, monkeypatch):
    monkeypatch.setattr(sources, "GATHER_SECONDS", 0.0)
    began, goes_on = asyncio.Event(), asyncio.Event()

    async def slow(place, key, data, **options):
        began.set()
        await goes_on.wait()
        return await obstore.put_async(place, key, data, **options)

    async def scenario():
        async with serving(tmp_path, kept=store, workers=0) as jobs, asyncio.timeout(100):
            monkeypatch.setattr(results_module, "obstore", SimpleNamespace(**{**vars(obstore), "put_async": slow}))
            job, _ = await jobs.create(SPEC, "alice")
            await jobs.write(job.request_id, 0, b"four")
            await began.wait()
            deleting = asyncio.create_task(jobs.delete(job.request_id, "alice"))
            await asyncio.wait([deleting], timeout=0.2)
            goes_on.set()
            await deleting
            await asyncio.gather(*jobs.keeper._sources._flushes.values())
            assert [key for key in await store.keys() if job.request_id in key] == []
            assert jobs.store.cleanups.due(float("inf")) == []

    asyncio.run(scenario())


def test_what_is_being_stored_for_long_is_removed_later(store, monkeypatch):
    async def never(*_, **options):
        await asyncio.Event().wait()

    monkeypatch.setattr(results_module, "obstore", SimpleNamespace(**{**vars(obstore), "put_async": never}))

    async def scenario():
        writing = asyncio.create_task(store.write("p/a/source/1", lambda: iter([b"four"]), 4))
        await asyncio.sleep(0)
        with monkeypatch.context() as patch, pytest.raises(TargetError, match="still being written"):
            patch.setattr(results_module, "ANSWER_SECONDS", 0.01)
            await store.clear("p/a/")
        await store.clear("p/b/")
        writing.cancel()
        await asyncio.wait([writing])
        await store.clear("p/a/")

    asyncio.run(scenario())


def test_a_listing_of_many_pages_has_its_time_for_each_of_them(store, monkeypatch):
    monkeypatch.setattr(results_module, "ANSWER_SECONDS", 0.3)

    async def pages(*_, **options):
        for page in range(10):
            await asyncio.sleep(0.05)
            yield [{"path": str(page), "size": 1}]

    async def stuck(*_, **options):
        await asyncio.Event().wait()
        yield []

    async def scenario():
        monkeypatch.setattr(results_module, "obstore", SimpleNamespace(**{**vars(obstore), "list": pages}))
        assert len(await store.list_objects("p/")) == 10
        monkeypatch.setattr(results_module, "obstore", SimpleNamespace(**{**vars(obstore), "list": stuck}))
        with pytest.raises(UnavailableError):
            await store.list_objects("p/")

    asyncio.run(scenario())


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

    async def waited(left, seconds):
        if not waits or waits[-1] < logs.LONGEST_GATHER:
            waits.append(seconds)
            for number in range(2):
                add(log, 2 * len(waits) + number)
        else:
            left.set()

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


@pytest.mark.parametrize(("harm", "left"), [("cut", 2), ("changed", 2), ("longer", 2), ("removed", 2), (None, 4)])
def test_what_came_of_a_source_is_brought_as_far_as_it_is_whole(
    folder, copied, store, tmp_path, monkeypatch, harm, left
):
    """The sender sends the rest again from the reported offset, which replaces the damaged part."""
    monkeypatch.setattr(copies, "LARGEST_SOURCE_PART", 1)
    other = JobFolder(tmp_path / "other")
    harms = {"cut": b"", "changed": b"x", "longer": b"ur"}

    async def scenario():
        whole = await copied.finish("a")
        third = sorted(await store.keys())[2]
        if harm == "removed":
            await store.remove(third)
        elif harm:
            await store.write(third, lambda: iter([harms[harm]]), len(harms[harm]))
        place = object_keys.source("p/", "a")
        assert await downloads.download_partial_source(store, place, other) == left == other.source_bytes
        assert other.source.read_bytes() == b"four"[:left]
        copy = copies.SourceCopy(store, place, other, left)
        other.append(left, b"four"[left:])
        while await copy.step():
            pass
        last = JobFolder(tmp_path / "last")
        await downloads.download_source(store, place, last, 4, whole["source"]["crc32c"])
        assert last.source.read_bytes() == b"four"

    asyncio.run(scenario())


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


@pytest.mark.parametrize("url", ["memory://", "folder"])
def test_whether_there_is_anything_is_seen_without_a_listing_of_all(url, tmp_path, monkeypatch):
    store, sizes, listing = Results(url if "://" in url else str(tmp_path / url)), [], obstore.list

    def noted(*args, **options):
        sizes.append(options["chunk_size"])
        return listing(*args, **options)

    monkeypatch.setattr(results_module, "obstore", SimpleNamespace(**{**vars(obstore), "list": noted}))

    async def scenario():
        assert await store.is_empty("p/a/")
        await store.write("p/a/1", lambda: iter([b"one"]), 3)
        assert not await store.is_empty("p/a/") and await store.is_empty("p/b/") and set(sizes) == {1}

    asyncio.run(scenario())
