"""Results stored in a bucket that is unavailable for a while, slow, or loses bytes: no job is lost, and no attempt repeated."""

import asyncio
import os

import pytest
import referee
from faulty_store import access, faulty, s3_server
from running_jobs import ended, result, serving, submit, until

from upres.engine.core.errors import TargetError
from upres.service.domain.errors import UnavailableError
from upres.service.domain.states import Status
from upres.service.storage import results as results_module
from upres.service.storage.results import Results

pytestmark = [pytest.mark.scale, pytest.mark.usefixtures("fake_models")]

LARGE = 23 << 20  # bytes: five parts


@pytest.fixture(scope="module")
def s3():
    with s3_server() as url:
        yield url


@pytest.fixture
def faults(s3, monkeypatch):
    with faulty(s3) as (url, faults):
        for name, value in access(url).items():
            monkeypatch.setenv(name, value)
        yield faults


@pytest.fixture
def bucket(faults, tmp_path):
    return Results(f"s3://bucket/{tmp_path.name}")


async def run_jobs(jobs, clip, tmp_path, count=1):
    """Submit jobs together; return each after its end, with the frames of its result."""
    submitted = [await submit(jobs, clip("a.mp4", 1)) for _ in range(count)]
    done = [await until(jobs, job.request_id, ended) for job in submitted]
    paths = [await result(jobs, job.request_id, tmp_path / f"{job.request_id}.mp4") for job in done]
    return [(job.state.status, job.state.attempts, referee.count(path)) for job, path in zip(done, paths, strict=True)]


def test_results_wait_for_a_store_that_answers_503_for_a_while(tmp_path, clip, faults, bucket, monkeypatch, caplog):
    monkeypatch.setattr(results_module, "STORE_SECONDS", 0.1)

    async def back():
        """Make the store available again once obstore's own retries have failed for a result."""
        while "for up to a day" not in caplog.text:
            await asyncio.sleep(0.05)
        faults.away = False

    async def scenario():
        async with serving(tmp_path, results=bucket) as jobs:
            faults.away = True
            _, ends = await asyncio.gather(back(), run_jobs(jobs, clip, tmp_path, 3))
            assert ends == [(Status.DONE, 1, 10)] * 3
        assert faults.answered.count(503) > 3

    asyncio.run(scenario())


def test_results_go_into_a_store_that_takes_long_for_every_answer(tmp_path, clip, faults, bucket):
    async def scenario():
        async with serving(tmp_path, results=bucket) as jobs:
            faults.delay = 0.2
            assert await run_jobs(jobs, clip, tmp_path, 3) == [(Status.DONE, 1, 10)] * 3

    asyncio.run(scenario())


def test_a_result_that_the_store_has_in_part_is_stored_again_before_anybody_sees_it(tmp_path, clip, faults, bucket):
    async def scenario():
        async with serving(tmp_path, results=bucket) as jobs:
            faults.loses = 1
            assert await run_jobs(jobs, clip, tmp_path) == [(Status.DONE, 1, 10)]
            assert faults.loses == 0

    asyncio.run(scenario())


def test_a_large_result_goes_in_parts_each_signed_with_its_hash_and_comes_back_whole_though_it_breaks_off(
    tmp_path, faults, bucket
):
    path = tmp_path / "file"
    path.write_bytes(os.urandom(LARGE))

    async def scenario():
        assert await bucket.put("a.mp4", path) == LARGE
        parts = [headers for method, url, headers in faults.requests if method == "PUT" and "partNumber" in url]
        assert len(parts) == 5 and len({headers["x-amz-content-sha256"] for headers in parts}) == 5
        faults.cuts = 2
        assert b"".join([chunk async for chunk in bucket.read("a.mp4")]) == path.read_bytes()
        assert faults.cuts == 0

    asyncio.run(scenario())


def test_parts_of_a_file_that_could_not_be_stored_are_removed_where_the_store_answers(tmp_path, faults, bucket):
    path = tmp_path / "file"
    path.write_bytes(os.urandom(LARGE))

    async def scenario():
        faults.refuses = 1
        with pytest.raises(TargetError, match="the result cannot be stored"):
            await bucket.put("a.mp4", path)
        assert any(method == "DELETE" and "uploadId" in url for method, url, _ in faults.requests)
        assert await bucket.put("a.mp4", path) == LARGE

    asyncio.run(scenario())


def test_who_reads_a_result_while_the_store_is_away_hears_so(faults, bucket, monkeypatch):
    monkeypatch.setattr(results_module, "ANSWER_SECONDS", 0.5)
    faults.away = True
    with pytest.raises(UnavailableError, match=r"does not respond .* try again later"):
        asyncio.run(bucket.size("a.mp4"))
