"""Full disks, and files that are no longer needed."""

import asyncio
from dataclasses import replace

import databases
import pytest
from running_jobs import SPEC, ended, result, serving, submit, until

from upres.service.domain.errors import DiskFullError, ResultMissingError
from upres.service.domain.policy import Policy
from upres.service.domain.spec import Limits
from upres.service.domain.states import Status
from upres.service.jobs.follow import follow
from upres.service.jobs.retention import Cutoff
from upres.service.storage.job_store import Store
from upres.service.storage.results import Results

pytestmark = pytest.mark.usefixtures("fake_models")
FULL = Policy(Limits(), free_bytes=1 << 62)  # more than any disk has


def test_an_upload_is_refused_while_the_disk_is_full_and_continues_when_it_is_not(tmp_path, clip):
    async def scenario():
        data = clip("a.mp4", 1).read_bytes()
        async with serving(tmp_path) as jobs:
            job, _ = await jobs.create(SPEC, "alice")
            await jobs.write(job.request_id, 0, data[:1000])
        async with serving(tmp_path, policy=FULL) as jobs:
            with pytest.raises(DiskFullError, match="continue from there later"):
                await jobs.write(job.request_id, 1000, data[1000:])
            with pytest.raises(DiskFullError):
                await jobs.create(SPEC, "alice")
            assert "disk" in (jobs.unready or "") or not jobs.scheduler.executor.ready
        async with serving(tmp_path) as jobs:
            assert await jobs.write(job.request_id, 1000, data[1000:]) == len(data)
            await jobs.end_source(job.request_id)
            assert (await until(jobs, job.request_id, ended)).state.status is Status.DONE

    asyncio.run(scenario())


def test_the_log_of_a_finished_job_goes_once_its_result_lies_elsewhere_and_its_readers_had_time(tmp_path, clip):
    async def scenario():
        for name, results in (("remote", Results("memory://")), ("local", None)):
            folder = tmp_path / name
            folder.mkdir()
            async with serving(folder, results=results) as jobs:
                job = await until(jobs, (await submit(jobs, clip("a.mp4", 1))).request_id, ended)
                log = jobs.folder(job.request_id).log
                assert log.exists()
                pieces = [piece async for piece in follow(jobs, job.request_id, "alice", {})]
                assert len(pieces) > 2
            hours_pass(folder)
            async with serving(folder, results=results) as jobs:
                async with asyncio.timeout(20):
                    while jobs.store.cleanups.due(float("inf")):
                        await asyncio.sleep(0.01)
                assert log.exists() is (name == "local")
                assert (await result(jobs, job.request_id, folder / "out.mp4")).stat().st_size
                if name == "remote":
                    with pytest.raises(ResultMissingError, match="read the joined file"):
                        await anext(follow(jobs, job.request_id, "alice", {}))

    asyncio.run(scenario())


def hours_pass(folder):
    """Make all postponed cleanups due."""
    store = Store(databases.url(folder / "jobs.db"))
    for cleanup in store.cleanups.due(float("inf")):
        store.cleanups.postpone(cleanup, 0.0)
    store.close()


def test_a_deletion_that_meets_the_end_of_its_job_succeeds(tmp_path, clip):
    async def scenario():
        loop = asyncio.get_running_loop()
        async with serving(tmp_path, workers=0) as jobs:
            job, _ = await jobs.create(replace(SPEC, streamed=True), "alice")

            class Late:  # the job ends between being read and being cancelled
                def __await__(self):
                    yield from jobs.cancel(job.request_id, "alice").__await__()

            get = jobs.get

            async def ends_meanwhile(request_id, owner):
                current = await get(request_id, owner)
                if not current.state.ended:
                    jobs.get = get
                    await Late()
                return current

            jobs.get = ends_meanwhile
            await jobs.delete(job.request_id, "alice")
            assert jobs.store.page() == [] and loop.is_running()

    asyncio.run(scenario())


class Clocks:
    """A wall clock that may jump, and a monotonic clock."""

    def __init__(self):
        self.wall, self.steady = 1_000_000.0, 50.0

    def pass_(self, seconds):
        self.wall += seconds
        self.steady += seconds

    def cutoff(self, keep_seconds):
        return Cutoff(keep_seconds, lambda: self.wall, lambda: self.steady)


def test_a_clock_that_jumps_forward_and_back_deletes_nothing():
    clocks = Clocks()
    cutoff = clocks.cutoff(7 * 86_400.0)
    for _ in range(100):
        cutoff.check()
        clocks.pass_(60)
    usual = cutoff.check()
    assert usual == pytest.approx(clocks.wall - 7 * 86_400 - 3600, abs=60)
    clocks.wall += 365 * 86_400
    for _ in range(50):
        assert cutoff.check() <= usual + 3600
        clocks.pass_(60)
    clocks.wall -= 365 * 86_400
    for _ in range(100):
        assert cutoff.check() <= clocks.wall - 7 * 86_400
        clocks.pass_(60)


def test_a_start_with_a_wrong_clock_deletes_nothing_at_once_and_a_right_one_later():
    clocks = Clocks()
    cutoff = clocks.cutoff(7 * 86_400.0)
    looks = []
    for _ in range(62):
        looks.append(cutoff.check())
        clocks.pass_(60)
    assert looks[0] == float("-inf") and looks[59] == float("-inf")
    assert looks[61] == pytest.approx(1_000_000 - 7 * 86_400, abs=120)
