"""A job's files are removed permanently, even while some are still being written and after errors."""

import asyncio
import time

import databases
import pytest
from running_jobs import SPEC, serving

from upres.service.domain.errors import StoreError
from upres.service.jobs.cleaning import Cleaner
from upres.service.jobs.kept.local_keeper import LocalKeeper
from upres.service.storage.cleanups import Cleanup, JobFiles
from upres.service.storage.job_store import LOG_SECONDS, Store
from upres.service.storage.results import Results, keys

FOREVER = float("inf")


@pytest.fixture
def store(tmp_path):
    opened = Store(databases.url(tmp_path / "jobs.db"))
    yield opened
    opened.close()


def test_what_is_removed_while_an_attempt_still_writes_is_removed_again(store, tmp_path):
    writing = {"job"}
    results, root = Results(str(tmp_path / "results")), tmp_path / "jobs"
    cleaner = Cleaner(LocalKeeper(root), store, results, writing.__contains__)
    video, _ = keys("server", "job")

    async def scenario():
        (tmp_path / "late").write_bytes(b"late")
        await cleaner.remove_everything("job", "server")
        await results.put(video, tmp_path / "late")  # which was being stored
        (root / "job").mkdir(parents=True)
        [cleanup] = store.cleanups.due(FOREVER)
        assert cleanup.due_at > time.time()
        writing.clear()
        await cleaner.remove_everything("job", "server")
        assert not (root / "job").exists()
        assert not list((tmp_path / "results").rglob("job*"))
        assert store.cleanups.due(FOREVER) == []

    asyncio.run(scenario())


def test_a_cleanup_that_was_scheduled_before_the_clock_was_set_back_is_due(store):
    now, cleanup = 1e9, Cleanup("job", JobFiles.LOG, "", 0.0)
    store.cleanups.postpone(cleanup, now + LOG_SECONDS)
    assert store.cleanups.due(now) == []
    store.cleanups.postpone(cleanup, now + 365 * 86400)
    assert [each.request_id for each in store.cleanups.due(now)] == ["job"]


def test_a_database_that_takes_nothing_is_asked_again_later_and_not_at_once(store, tmp_path, monkeypatch):
    cleaner = Cleaner(LocalKeeper(tmp_path), store, Results(str(tmp_path / "results")), lambda request_id: False)
    calls = []

    def refused(*_):
        calls.append(1)
        raise StoreError("full")

    for name in ("done", "postpone"):
        monkeypatch.setattr(store.cleanups, name, refused)
    monkeypatch.setattr(store.cleanups, "due", lambda now: [Cleanup("job", JobFiles.SOURCE, "server", 0.0)] * 3)
    asyncio.run(asyncio.wait_for(cleaner._process_due(), 20))
    assert len(calls) == 1


def test_a_job_that_cannot_be_begun_leaves_neither_row_nor_place(tmp_path, monkeypatch):
    async def refused(self, request_id):
        raise StoreError("no folder")

    async def scenario():
        async with serving(tmp_path, workers=0) as jobs:
            with monkeypatch.context() as patch:
                patch.setattr("upres.service.jobs.uploads.Intake.expect", refused)
                with pytest.raises(StoreError, match="no folder"):
                    await jobs.create(SPEC, "alice")
            assert len(jobs.scheduler.queue) == 0
            assert await jobs.page("alice", status=None, below=None, limit=9) == []

    asyncio.run(scenario())
