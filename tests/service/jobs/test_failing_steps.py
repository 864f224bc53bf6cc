"""Failures at each step of accepting a job: no resources leak to unknown jobs, and no job waits indefinitely."""

import asyncio
import errno
import logging
from dataclasses import replace

import pytest
from running_jobs import SPEC, ended, result, serving, submit, until

from upres.service.domain.errors import DiskFullError, NotFoundError, StoreError
from upres.service.domain.policy import Policy
from upres.service.domain.request_id import new_id
from upres.service.domain.spec import Limits
from upres.service.domain.states import Reason, Status
from upres.service.execution.local import LocalExecutor
from upres.service.jobs import retention
from upres.service.live.relay import Live
from upres.service.storage.job_folder import JobFolder
from upres.service.storage.job_store import Store

ONE = Policy(Limits(), queue=1)
IMPATIENT = Policy(Limits(), queue=1, source_idle_seconds=0.2)
LIVE = replace(SPEC, streamed=True, live=True)

full, denied, damaged = (
    OSError(errno.ENOSPC, "No space left"),
    OSError(errno.EACCES, "Permission denied"),
    StoreError("no"),
)


def failing(error):
    def fails(*_, **__):
        raise error

    return fails


STEPS = [
    (JobFolder, "make", full, DiskFullError),
    (JobFolder, "end_source", full, DiskFullError),
    (JobFolder, "end_source", denied, StoreError),
    (Store, "change", damaged, StoreError),
]


@pytest.mark.parametrize("owner, name, error, seen", STEPS, ids=lambda value: getattr(value, "__name__", str(value)))
def test_an_upload_that_cannot_be_accepted_leaves_nothing(tmp_path, clip, monkeypatch, owner, name, error, seen):
    async def scenario():
        async with serving(tmp_path, workers=0, policy=ONE) as jobs:
            upload = tmp_path / "upload"
            upload.write_bytes(clip("a.mp4", 1).read_bytes())
            job, _ = await jobs.create(SPEC, "alice", idempotency="again")
            with monkeypatch.context() as patch:
                patch.setattr(owner, name, failing(error))
                with pytest.raises(seen):
                    await jobs.accept_source(job, upload)
            assert await jobs.page("alice", status=None, below=None, limit=9) == []
            assert not jobs.folder(job.request_id).path.exists()
            upload.write_bytes(clip("a.mp4", 1).read_bytes())
            job, new = await jobs.create(SPEC, "alice", idempotency="again")  # the only place in the queue is free
            assert new and (await jobs.accept_source(job, upload)).accepted

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "owner, name, error, seen", STEPS[1:], ids=lambda value: getattr(value, "__name__", str(value))
)
def test_an_end_of_a_source_that_cannot_be_noted_can_be_sent_again(
    tmp_path, clip, monkeypatch, fake_models, owner, name, error, seen
):
    async def scenario():
        async with serving(tmp_path) as jobs:
            job, _ = await jobs.create(SPEC, "alice")
            await jobs.write(job.request_id, 0, clip("a.mp4", 1).read_bytes())
            with monkeypatch.context() as patch:
                patch.setattr(owner, name, failing(error))
                with pytest.raises(seen):
                    await jobs.end_source(job.request_id)
            await jobs.end_source(job.request_id)
            assert (await until(jobs, job.request_id, ended)).state.status is Status.DONE
            assert (await result(jobs, job.request_id, tmp_path / "out.mp4")).stat().st_size

    asyncio.run(scenario())


def test_a_sender_that_leaves_after_such_an_end_is_not_waited_for(tmp_path, clip, monkeypatch):
    async def scenario():
        async with serving(tmp_path, workers=0, policy=IMPATIENT) as jobs:
            job, _ = await jobs.create(replace(SPEC, streamed=True), "alice")
            with monkeypatch.context() as patch:
                patch.setattr(JobFolder, "end_source", failing(full))
                with pytest.raises(DiskFullError):
                    await jobs.end_source(job.request_id)
            job = await until(jobs, job.request_id, ended)
            assert job.state.failure.reason is Reason.SOURCE_INCOMPLETE
            assert (await jobs.create(SPEC, "alice"))[1]

    asyncio.run(scenario())


def test_a_job_that_can_neither_start_nor_be_removed_ends_later(tmp_path, monkeypatch):
    async def scenario():
        request_id = new_id()
        async with serving(tmp_path, workers=0, policy=IMPATIENT) as jobs:
            with monkeypatch.context() as patch:
                patch.setattr(JobFolder, "make", failing(full))
                patch.setattr(Store, "delete", failing(damaged))
                with pytest.raises(DiskFullError):
                    await jobs.create(SPEC, "alice", request_id=request_id)
            job = await until(jobs, request_id, ended)
            assert job.state.failure.reason is Reason.SOURCE_INCOMPLETE

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "owner, name, error",
    [
        (Live, "open", full),
        (Live, "open", ValueError("x")),
        (Store, "change", damaged),
        (LocalExecutor, "run", ValueError("x")),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_a_live_job_that_cannot_start_leaves_nothing(tmp_path, clip, monkeypatch, fake_models, owner, name, error):
    async def scenario():
        request_id = new_id()
        async with serving(tmp_path) as jobs:
            await until(jobs, (await submit(jobs, clip("a.mp4", 1))).request_id, ended)  # the worker is ready
            with monkeypatch.context() as patch:
                patch.setattr(owner, name, failing(error))
                with pytest.raises(StoreError if isinstance(error, OSError) else type(error)):
                    await jobs.create(LIVE, "alice", request_id=request_id)
            async with asyncio.timeout(20):
                while jobs.live(request_id) or request_id in jobs.scheduler.attempts:
                    await asyncio.sleep(0)
            assert [job.spec["live"] for job in jobs.store.page()] == [False]
            assert not jobs.folder(request_id).path.exists()
            assert (await jobs.create(LIVE, "alice"))[1]  # the slot is free

    asyncio.run(scenario())


def test_a_live_job_that_can_neither_start_nor_be_removed_is_removed_later(tmp_path, clip, monkeypatch, fake_models):
    async def scenario():
        request_id = new_id()
        async with serving(tmp_path, policy=IMPATIENT) as jobs:
            await until(jobs, (await submit(jobs, clip("a.mp4", 1))).request_id, ended)
            with monkeypatch.context() as patch:
                for name in ("change", "delete"):
                    patch.setattr(Store, name, failing(damaged))
                with pytest.raises(StoreError):
                    await jobs.create(LIVE, "alice", request_id=request_id)
            async with asyncio.timeout(200):
                with pytest.raises(NotFoundError):
                    while await jobs.get(request_id, "alice"):
                        await asyncio.sleep(0.01)
            assert (await jobs.create(LIVE, "alice"))[1]

    asyncio.run(scenario())


def test_an_order_that_a_worker_does_not_take_holds_none_of_its_slots(tmp_path, clip, monkeypatch, fake_models):
    async def scenario():
        async with serving(tmp_path) as jobs:
            await until(jobs, (await submit(jobs, clip("a.mp4", 1))).request_id, ended)
            [worker] = jobs.scheduler.executor._workers
            with monkeypatch.context() as patch:
                patch.setattr(worker, "_send", failing(ValueError("x")))
                with pytest.raises(ValueError):
                    await jobs.create(LIVE, "alice")
            assert jobs.scheduler.executor.live_room == 1

    asyncio.run(scenario())


def test_a_server_starts_although_a_job_has_no_folder_and_gets_none(tmp_path, monkeypatch):
    async def scenario():
        async with serving(tmp_path, workers=0) as jobs:
            job, _ = await jobs.create(SPEC, "alice")
        with monkeypatch.context() as patch:
            patch.setattr(JobFolder, "make", failing(full))
            async with serving(tmp_path, workers=0, policy=IMPATIENT) as jobs:
                assert (await until(jobs, job.request_id, ended)).state.failure.reason is Reason.SOURCE_INCOMPLETE

    asyncio.run(scenario())


def test_cleanups_and_deletions_wait_for_a_database_that_cannot_be_used(tmp_path, monkeypatch, caplog):
    async def scenario():
        for name in ("cleaning", "retention"):
            monkeypatch.setattr(f"upres.service.jobs.{name}.CHECK_SECONDS", 0.01)
        async with serving(tmp_path, workers=0) as jobs:
            calls = {"due": 0, "ended_before": 0}

            def refuses(name):
                def fails(*_):
                    calls[name] += 1
                    raise damaged

                return fails

            monkeypatch.setattr(jobs.store.cleanups, "due", refuses("due"))
            monkeypatch.setattr(jobs.store, "ended_before", refuses("ended_before"))
            expiring = asyncio.create_task(retention.keep_expiring(jobs, 1.0))
            cleaning = asyncio.create_task(jobs._cleaner.run())
            async with asyncio.timeout(20):
                while min(calls.values()) < 9:
                    await asyncio.sleep(0)
            for task in (expiring, cleaning):
                assert not task.done()
                task.cancel()
        assert not [
            record for record in caplog.records if "failed" in record.message and record.levelno >= logging.ERROR
        ]

    asyncio.run(scenario())
