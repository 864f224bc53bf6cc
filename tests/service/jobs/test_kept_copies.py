"""Sources and logs on their way into a store of jobs, and what becomes of them where a job ends meanwhile."""

import asyncio

import pytest

from upres.engine.core.errors import TargetError
from upres.service.jobs.kept import sources
from upres.service.storage import results as results_module
from upres.service.storage.job_folder import JobFolder
from upres.service.storage.kept import copies
from upres.service.storage.results import Results


@pytest.fixture
def store():
    return Results("memory://", "job")


@pytest.fixture
def folder(tmp_path):
    """The folder of a job whose source has four bytes."""
    folder = JobFolder(tmp_path / "jobs" / "a")
    folder.make()
    folder.append(0, b"four")
    return folder


@pytest.fixture
def copied(tmp_path, store):
    return sources.KeptSources(tmp_path / "jobs", store, "p/")


def test_a_source_of_many_parts_has_its_time_for_each_of_them(folder, copied, monkeypatch):
    monkeypatch.setattr(copies, "MOST", 1)
    monkeypatch.setattr(sources, "WHOLE_SECONDS", 1000.0)

    async def scenario():
        limits, loop = [], asyncio.get_running_loop()
        with monkeypatch.context() as patch:
            patch.setattr(asyncio.Timeout, "reschedule", lambda self, when: limits.append(when - loop.time()))
            whole = await copied.whole("a")
        assert whole["source"]["bytes"] == 4
        assert sum(seconds > 500 for seconds in limits) == 1 + 4

    asyncio.run(scenario())


@pytest.mark.parametrize("small", [5 << 20, 0])
@pytest.mark.parametrize("step", ["came", "whole"])
def test_a_source_whose_job_ends_while_it_is_read_is_no_fault(folder, store, copied, monkeypatch, caplog, small, step):
    monkeypatch.setattr(results_module, "SMALL", small)
    monkeypatch.setattr(sources, "GATHER_SECONDS", 0.0)
    monkeypatch.setattr(sources, "FIRST_PAUSE", 0.0)
    write = store.write

    async def removed(key, chunks, size):
        folder.spend()
        await write(key, chunks, size)

    async def scenario():
        monkeypatch.setattr(store, "write", removed)
        if step == "whole":
            assert await copied.whole("a") == {}
        else:
            copied.came("a")
            (flush,) = copied._flushes.values()
            await flush
            assert not copied._copies and not copied._flushes
        assert await store.listed("p/") == []

    asyncio.run(scenario())
    assert "Traceback" not in caplog.text


def test_no_more_of_a_source_is_stored_whose_job_ended_while_the_store_was_away(folder, store, copied, monkeypatch):
    monkeypatch.setattr(sources, "FIRST_PAUSE", 0.0)

    async def away(key, chunks, size):
        raise TargetError("it is away")

    async def scenario():
        monkeypatch.setattr(store, "write", away)
        whole = asyncio.create_task(copied.whole("a"))
        await asyncio.sleep(0.01)
        copied.forget("a")  # its source is removed later
        assert await asyncio.wait_for(whole, 60) == {}

    asyncio.run(scenario())
