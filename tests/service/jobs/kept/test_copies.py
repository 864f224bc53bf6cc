"""Uploads of sources to an object store, and the removal and listing of its objects."""

import asyncio
from types import SimpleNamespace

import obstore
import pytest
from running_jobs import SPEC, serving

from upres.engine.core.errors import TargetError
from upres.service.domain.errors import UnavailableError
from upres.service.jobs.kept import sources
from upres.service.storage import results as results_module
from upres.service.storage.job_folder import JobFolder
from upres.service.storage.kept import copies, downloads, object_keys
from upres.service.storage.results import Results


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


@pytest.mark.parametrize(("harm", "stored"), [("cut", 2), ("changed", 2), ("longer", 2), ("removed", 2), (None, 4)])
def test_what_came_of_a_source_is_brought_as_far_as_it_is_whole(
    folder, copied, store, tmp_path, monkeypatch, harm, stored
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
        assert await downloads.download_partial_source(store, place, other) == stored == other.source_bytes
        assert other.source.read_bytes() == b"four"[:stored]
        copy = copies.SourceCopy(store, place, other, stored)
        other.append(stored, b"four"[stored:])
        while await copy.step():
            pass
        last = JobFolder(tmp_path / "last")
        await downloads.download_source(store, place, last, 4, whole["source"]["crc32c"])
        assert last.source.read_bytes() == b"four"

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
