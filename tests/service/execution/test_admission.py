"""A job runs once its predicted memory is free, and never if the memory can never suffice."""

import asyncio

import pytest
from running_jobs import SPEC, ended, serving, submit, until

from upres.service.domain.states import Status
from upres.service.execution.base import ExecutorOptions
from upres.service.execution.local import LocalExecutor

pytestmark = pytest.mark.usefixtures("fake_models")


def run(folder, path, memory_bytes, count=1):
    """Submit clips at once to a worker with a limit on its attempts' memory; return the ended jobs."""

    async def scenario():
        executor = LocalExecutor(ExecutorOptions(workers=1, slots=4, models="fake:load", memory_bytes=memory_bytes))
        async with serving(folder, executor=executor) as jobs:
            ids = [(await submit(jobs, path, SPEC)).request_id for _ in range(count)]
            return [await until(jobs, request_id, ended) for request_id in ids]

    return asyncio.run(scenario())


def test_a_job_that_can_never_fit_ends_with_what_it_needs(tmp_path, clip):
    (job,) = run(tmp_path, clip(seconds=1), 64 << 20)
    assert job.state.status is Status.ERROR and "of memory" in job.state.failure.message
    assert not job.state.failure.reason.retryable


def test_jobs_that_fit_one_after_the_other_all_end(tmp_path, clip):
    jobs = run(tmp_path, clip(seconds=1), 250 << 20, count=3)
    assert [job.state.status for job in jobs] == [Status.DONE] * 3
