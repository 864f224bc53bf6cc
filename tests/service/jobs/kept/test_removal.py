"""Removal of a job's files from the object store and of folders that a machine no longer needs."""

import asyncio
import shutil
import time

import pytest
from kept_jobs import pieces, take_away
from running_jobs import SPEC, ended, removed, serving, submit, until

from upres.service.domain.errors import ResultMissingError
from upres.service.jobs.cleaning import Cleaner
from upres.service.storage.cleanups import Cleanup, JobFiles

pytestmark = pytest.mark.usefixtures("fake_models")
SECONDS = 12


def test_what_a_job_has_in_the_store_goes_with_it_and_nothing_else_does(tmp_path, clip, kept):
    async def scenario():
        async with serving(tmp_path, kept=kept) as jobs:
            foreign = tmp_path / "store" / "another" / "key"
            foreign.parent.mkdir(parents=True)
            foreign.touch()
            job = await submit(jobs, clip("a.mp4", 1))
            await until(jobs, job.request_id, ended)
            home = tmp_path / "store" / jobs.store.result_prefix / job.request_id
            await removed(home / "source")
            assert (home / "log").is_dir()
            await jobs.keeper.clear(Cleanup(job.request_id, JobFiles.LOG, "", 0.0))
            take_away(jobs.folder(job.request_id).log)
            with pytest.raises(ResultMissingError):
                await pieces(jobs, job.request_id)
            other = await submit(jobs, clip("a.mp4", SECONDS))
            await jobs.delete(other.request_id, "alice")
            await jobs.delete(job.request_id, "alice")
            await removed(home.with_name(other.request_id))
            assert not home.exists() and foreign.exists()

    asyncio.run(scenario())


def test_a_folder_that_cannot_be_removed_keeps_no_other(tmp_path, kept, monkeypatch, caplog):
    remove, jobs = shutil.rmtree, tmp_path / "jobs"
    names = [f"{number}0000000-0000-4000-8000-000000000000" for number in range(3)]
    monkeypatch.setattr(Cleaner, "keep_folders_tidy", lambda *_: asyncio.sleep(600))  # called explicitly below

    def stubborn(path, **kwargs):
        if path.name != f".{names[0]}":
            remove(path, **kwargs)

    async def scenario():
        async with serving(tmp_path, kept=kept) as server:
            for name in (f".{names[0]}", *names):
                (jobs / name / "log").mkdir(parents=True)
            monkeypatch.setattr(shutil, "rmtree", stubborn)
            await server.keeper.tidy(lambda name: False)
            assert {path.name for path in jobs.iterdir()} == {names[0], f".{names[0]}"}
            assert f"{jobs / names[0]} is no longer needed and cannot be removed" in caplog.text
            assert f"{jobs / ('.' + names[0])} is no longer needed, and cannot be removed completely" in caplog.text
            monkeypatch.setattr(shutil, "rmtree", remove)
            await server.keeper.tidy(lambda name: False)
            assert not [*jobs.iterdir()]

    asyncio.run(scenario())


def test_folders_of_jobs_that_ended_long_ago_or_are_unknown_are_removed_and_no_others(
    tmp_path, clip, kept, monkeypatch
):
    async def scenario():
        async with serving(tmp_path, kept=kept) as jobs:
            done = await submit(jobs, clip("a.mp4", 1))
            await until(jobs, done.request_id, ended)
            comes, _ = await jobs.create(SPEC, "alice")
            unknown, other = tmp_path / "jobs" / ("0" * 8 + "-0000-4000-8000-" + "0" * 12), tmp_path / "jobs" / "other"
            for folder in (unknown, other):
                folder.mkdir()
            await jobs.keeper.tidy(lambda name: False)
            assert not unknown.exists()
            assert all(
                folder.exists() for folder in (other, *(jobs.folder(job.request_id).path for job in (done, comes)))
            )
            later = time.time() + 7200
            monkeypatch.setattr(time, "time", lambda: later)
            await jobs.keeper.tidy(lambda name: False)
            assert not jobs.folder(done.request_id).path.exists() and jobs.folder(comes.request_id).path.exists()

    asyncio.run(scenario())
