"""Ranges that are ahead of a job's log: a server that takes the job over has them from the store and does not repeat them."""

import asyncio
import shutil
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest
from away_store import Away
from paths import SUPPORT
from running_jobs import ended, removed, result, serving, submit, until

from upres.engine.core.errors import TargetError
from upres.engine.ranges.folder import Ranges
from upres.engine.segments.folder import FolderLog
from upres.engine.segments.model import Fragment, Track
from upres.service.domain.states import Status
from upres.service.jobs.change_events import Ledger
from upres.service.jobs.kept import logs
from upres.service.storage.cleanups import Cleanup, JobFiles
from upres.service.storage.job_folder import JobFolder
from upres.service.storage.kept import copies, object_keys
from upres.service.storage.kept.downloads import download_log
from upres.service.storage.kept.range_copies import RangeCopies
from upres.service.storage.results import Results

SECONDS, FRAMES = 12, 120
RANGE_FRAMES = 15  # the longest range of two devices
GENERATION = "0" * 16


@pytest.fixture
def kept(tmp_path):
    return Away(tmp_path)


@pytest.fixture
def count(tmp_path, monkeypatch):
    """Return the file with a byte for each frame that any device has processed."""
    monkeypatch.setenv("PYTHONPATH", str(SUPPORT))
    monkeypatch.setenv("FAKE_GATE", str(tmp_path / "gate"))
    monkeypatch.setenv("FAKE_COUNT", str(tmp_path / "count"))
    (tmp_path / "count").touch()
    return tmp_path / "count"


@pytest.fixture(scope="module")
def undisturbed(clip, tmp_path_factory):
    """Return the bytes of the result of one device, without a store."""
    folder = tmp_path_factory.mktemp("undisturbed")

    async def scenario():
        async with serving(folder) as jobs:
            job = await submit(jobs, clip("a.mp4", SECONDS))
            await until(jobs, job.request_id, ended)
            return (await result(jobs, job.request_id, folder / "out.mp4")).read_bytes()

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(SUPPORT))
        return asyncio.run(scenario())


@asynccontextmanager
async def ahead(folder, path, kept):
    """Serve a job until all is stored that two devices can process while one of its first ranges pauses; yield its id.

    The store is unavailable while the ranges are processed.
    """
    async with serving(folder, kept=kept, workers=2, models="fake:ahead") as jobs, asyncio.timeout(200):
        while not all(device.ready for device in jobs.scheduler.executor.devices):
            await asyncio.sleep(0.02)
        job = await submit(jobs, path)
        log = jobs.folder(job.request_id).log
        await until_stored(kept, "/log/")
        kept.away = True
        while not unfinished_ranges(log):
            await asyncio.sleep(0.02)
        kept.away = False
        while not await all_stored(kept, log, f"{jobs.store.result_prefix}{job.request_id}/ranges/"):
            await asyncio.sleep(0.02)
        yield job.request_id
        kept.away = True  # the server stores nothing at its end


async def until_stored(kept, part):
    while not any(part in key for key in kept.seen):
        await asyncio.sleep(0.02)


def unfinished_ranges(log):
    """Report whether every range is complete, except the one that pauses and the one that waits for the same device."""
    ranges = Ranges(log, {})
    return ranges.plan and sum(not ranges.is_made(number) for number in range(len(ranges.plan.spans))) <= 2


async def all_stored(kept, log, key_prefix):
    """Report whether the store has the ranges of a log that are not merged."""
    copied = object_keys.grouped(await copies.list_parts(kept, key_prefix)).get(copies.read_generation(log), {})
    indexes = {
        path.parent.name: path.with_name("index.jsonl").stat().st_size for path in log.glob("ranges/*/video.mp4")
    }
    ends = {name: object_keys.chain(parts) for name, parts in copied.items() if name in indexes}
    return {name: chained[-1].end for name, chained in ends.items()} == indexes


async def finished_by_successor(folder, kept, request_id, undisturbed):
    """Let a server without the first one's disk complete a job; nothing of the ranges is left in the store."""
    shutil.rmtree(folder / "jobs")
    (folder / "gate").touch()
    kept.away = False
    async with serving(folder, kept=kept, workers=2, models="fake:ahead") as jobs:
        done = await until(jobs, request_id, ended)
        assert (done.state.status, done.state.attempts) == (Status.DONE, 1)
        assert (await result(jobs, request_id, folder / "out.mp4")).read_bytes() == undisturbed
        await removed(folder / "store" / jobs.store.result_prefix / request_id / "ranges")


def test_ranges_ahead_of_the_log_are_not_repeated_where_the_disk_is_lost(tmp_path, clip, kept, count, undisturbed):
    async def scenario():
        async with ahead(tmp_path, clip("a.mp4", SECONDS), kept) as request_id:
            pass
        await finished_by_successor(tmp_path, kept, request_id, undisturbed)

    asyncio.run(scenario())
    assert 0 < count.stat().st_size - FRAMES < RANGE_FRAMES


@pytest.mark.parametrize(
    ("harm", "least", "most"),
    [
        ("changed", 7, 3 * RANGE_FRAMES),
        ("none stored", 4 * RANGE_FRAMES, FRAMES),  # a job of an older server
    ],
)
def test_only_ranges_that_are_damaged_or_missing_in_the_store_are_repeated(
    tmp_path, clip, kept, count, undisturbed, harm, least, most
):
    async def scenario():
        async with ahead(tmp_path, clip("a.mp4", SECONDS), kept) as request_id:
            pass
        (ranges,) = (tmp_path / "store").glob(f"*/{request_id}/ranges")
        if harm == "none stored":
            shutil.rmtree(ranges)
        else:
            *_, path = sorted(ranges.glob("*/00*/000000000000000-*"))
            path.write_bytes(path.read_bytes()[:-1] + b"?")
        await finished_by_successor(tmp_path, kept, request_id, undisturbed)

    asyncio.run(scenario())
    assert least <= count.stat().st_size - FRAMES < most


def test_a_server_that_takes_over_soon_after_another_takeover_finds_the_ranges_as_well(
    tmp_path, clip, kept, count, undisturbed, monkeypatch
):
    """The second server ends before it has stored the ranges again."""

    async def scenario():
        async with ahead(tmp_path, clip("a.mp4", SECONDS), kept) as request_id:
            pass
        shutil.rmtree(tmp_path / "jobs")
        kept.away = False
        with monkeypatch.context() as patch:
            patch.setattr(RangeCopies, "_upload", None)
            async with serving(tmp_path, kept=kept, workers=2, models="fake:ahead") as jobs, asyncio.timeout(200):
                while len((await jobs.get(request_id, "alice")).kept["log"]) < 2:
                    await asyncio.sleep(0.01)
                kept.away = True
        await finished_by_successor(tmp_path, kept, request_id, undisturbed)

    asyncio.run(scenario())
    assert count.stat().st_size - FRAMES < 2 * RANGE_FRAMES


class Rows(Ledger):
    """Row of a job, with the generations of its log."""

    async def get(self, request_id, owner=None):
        return SimpleNamespace(kept={})

    async def change(self, request_id, *columns, **named):
        """Change the row, which this server owns."""


@pytest.fixture
def split(tmp_path):
    """Return a job's log and its second range, each with one fragment; a function that merges the range; and a store."""
    folder, store = JobFolder(tmp_path / "jobs" / "a"), Results("memory://", "job")
    ranges = Ranges(folder.log, {})
    folder.log.mkdir(parents=True)
    (folder.log / "generation").write_text(GENERATION)
    log = FolderLog(folder.log, {})
    (folder.log / "ranges").mkdir()
    (folder.log / "ranges" / "plan.json").write_text("{}")
    piece = ranges.log(1)
    for each in (log, piece):
        each.add_track(Track("video", "h264", 1, 0, b"init"))
        each.append(Fragment("video", 0, 0, 0, 1, 1), b"fragment")

    def merge():
        log.append(Fragment("video", 1, 0, 1, 1, 1), b"fragment")
        ranges.empty(1)

    yield SimpleNamespace(folder=folder, store=store, log=log, range=piece, merge=merge)
    log.close()
    piece.close()


def copied(split):
    """Return the uploads of a log and of its ranges."""

    async def begin(generation):
        return [(generation, None)]

    log = copies.LogCopy(split.store, "p/a/log/", split.folder.log, begin)
    return log, RangeCopies(split.store, "p/a/ranges/", split.folder.log)


async def names(store):
    """Return the names of the stored ranges."""
    return {key.split("/")[-2] for key in await store.keys() if "/ranges/" in key}


def test_a_stored_range_is_deleted_once_the_stored_log_contains_it(split, monkeypatch):
    write, away = split.store.write, False

    async def partly(key, chunks, size):
        if away and "/log/" in key:
            raise TargetError("it is away")
        await write(key, chunks, size)

    monkeypatch.setattr(split.store, "write", partly)

    async def scenario():
        nonlocal away
        both = copied(split)
        while await logs._step(*both):
            pass
        assert await names(split.store) == {"plan", "00001"}
        split.merge()
        away = True
        for _ in range(3):
            with pytest.raises(TargetError):
                await logs._step(*both)
            assert "00001" in await names(split.store)
        away = False
        while await logs._step(*both):
            pass
        await logs._step(*both)
        assert await names(split.store) == {"plan"}

    asyncio.run(scenario())


def test_a_restarted_server_continues_the_uploads_of_ranges_and_deletes_what_was_merged(split):
    async def scenario():
        while await logs._step(*copied(split)):
            pass
        stored = await split.store.keys()
        split.range.append(Fragment("video", 1, 0, 1, 1, 1), b"fragment")
        both = copied(split)
        assert await logs._step(*both) and not await logs._step(*both)
        (new,) = {*await split.store.keys()} - {*stored}
        assert "/00001/" in new and int(new.rpartition("/")[2].partition("-")[0]) > 0
        split.merge()
        both = copied(split)
        for _ in range(3):
            await logs._step(*both)
        assert await names(split.store) == {"plan"}

    asyncio.run(scenario())


def test_a_new_plan_replaces_the_stored_one(split):
    async def scenario():
        both = copied(split)
        await logs._step(*both)
        (split.folder.log / "ranges" / "plan.json").write_text('{"why": "damaged"}')
        await logs._step(*both)
        (plan,) = [key for key in await split.store.keys() if "/plan/" in key]
        assert b"".join([data async for data in split.store.read(plan)]) == b'{"why": "damaged"}'

    asyncio.run(scenario())


def test_no_range_is_stored_after_the_end_of_its_job(split, tmp_path):
    async def scenario():
        kept = logs.KeptLogs(Rows(None), tmp_path / "jobs", split.store, "p/")
        kept.follow("a")
        kept.end_ranges("a")
        kept.unfollow("a")
        await asyncio.gather(*kept._tasks.values())
        await asyncio.sleep(0)
        assert await split.store.keys() and await names(split.store) == set() and not kept._ranges

    asyncio.run(scenario())


def test_a_range_that_is_damaged_on_the_disk_delays_no_other(split, tmp_path, caplog):
    (split.folder.log / "ranges" / "00001" / "video.mp4").write_bytes(b"initfragmenT")
    other = Ranges(split.folder.log, {}).log(2)
    other.close()

    async def scenario():
        both = copied(split)
        await logs._step(*both)
        assert await names(split.store) == {"plan", "00002"} and "range 00001 is no longer uploaded" in caplog.text

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("harmed", "restored"), [(None, ["00001", "plan.json"]), ("/00001/", ["plan.json"]), ("/plan/", None)]
)
def test_a_range_in_the_store_is_restored_as_it_was_as_far_as_it_is_whole(split, tmp_path, harmed, restored):
    async def begin(generations):
        assert generations[0] == (GENERATION, (split.folder.log / "index.jsonl").stat().st_size)

    async def scenario():
        while await logs._step(*copied(split)):
            pass
        for key in await split.store.keys():
            if harmed and harmed in key:
                size = await split.store.size(key)
                await split.store.write(key, lambda size=size: iter([b"?" * size]), size)
        target = tmp_path / "other" / "log"
        target.parent.mkdir()
        await download_log(split.store, "p/a/log/", "p/a/ranges/", target, [(GENERATION, None)], begin)
        assert (target / "index.jsonl").read_bytes() == (split.folder.log / "index.jsonl").read_bytes()
        assert (target / "ranges").exists() == (restored is not None)
        assert sorted(path.name for path in target.glob("ranges/*")) == (restored or [])
        for path in target.glob("ranges/*/*"):
            assert path.read_bytes() == (split.folder.log / path.relative_to(target)).read_bytes()

    asyncio.run(scenario())


def test_ranges_that_a_crash_left_in_the_store_are_deleted_after_the_end_of_their_job(tmp_path, clip, kept, count):
    async def scenario():
        async with serving(tmp_path, kept=kept) as jobs:
            job = await submit(jobs, clip("a.mp4", 1))
            await until(jobs, job.request_id, ended)
            while any(cleanup.what is JobFiles.SOURCE for cleanup in jobs.store.cleanups.due(float("inf"))):
                await asyncio.sleep(0.01)
            folder_in_store = tmp_path / "store" / jobs.store.result_prefix / job.request_id / "ranges"
            for what in (JobFiles.SOURCE, JobFiles.LOG):
                key = object_keys.key(f"{jobs.store.result_prefix}{job.request_id}/ranges/{GENERATION}/00001/", 0, 3)
                await kept.write(key, lambda: iter([b"abc"]), 3)
                await jobs.keeper.clear(Cleanup(job.request_id, what, "", 0.0))
                assert not folder_in_store.exists()

    asyncio.run(scenario())
