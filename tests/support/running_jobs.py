"""Jobs with real worker processes, a real database and a fake model."""

import asyncio
from contextlib import asynccontextmanager, suppress

import databases
import processes

from upres.engine.segments.model import Fragment
from upres.engine.segments.tail import Tail
from upres.service.auth.api_keys import Keys
from upres.service.domain.errors import StoreError
from upres.service.domain.policy import Policy
from upres.service.domain.spec import Limits, Spec
from upres.service.execution.base import ExecutorOptions
from upres.service.execution.local import LocalExecutor
from upres.service.execution.probe.probe import Probe
from upres.service.jobs.service import Jobs
from upres.service.storage.job_store import Store
from upres.service.storage.lease import Lease
from upres.service.storage.results import Results

SPEC = Spec("RealESRGAN_Vid_x2", segment_seconds=0.5, preset="ultrafast")


@asynccontextmanager
async def serving(
    folder,
    *,
    policy=None,
    pull=None,
    workers=1,
    models="fake:load",
    checkpoint=lambda step: None,
    executor=None,
    results=None,
    telemetry=None,
    kept=None,
    store=None,
):
    policy = policy or Policy(Limits())
    opened = store is None
    store = store or Store(databases.url(folder / "jobs.db"), checkpoint=checkpoint)
    executor = executor or LocalExecutor(ExecutorOptions(workers=workers, slots=2, models=models))
    results = results or Results(str(folder / "results"))
    probe = Probe(policy.limits)
    watched = {"checkpoint": checkpoint, "telemetry": telemetry, "kept": kept}
    jobs = Jobs(store, results, executor, policy, folder / "jobs", probe=probe, pull=pull, **watched)
    await jobs.start()
    try:
        yield jobs
    finally:
        await jobs.stop()
        probe.close()
        if opened:
            store.close()


@asynccontextmanager
async def beside(folder, url, **options):
    """Yield the jobs of a server that may share a PostgreSQL database. Run nothing else in its event loop afterwards."""
    store, lease = Store(url), Lease("here", joins=True)
    assert store.acquire(lease) is None
    if not Keys(store).all():
        Keys(store).add("alice")
    renewing = asyncio.create_task(_renewed(store, lease))
    try:
        async with serving(folder, store=store, **options) as jobs:
            yield jobs
    finally:
        renewing.cancel()
        await asyncio.gather(renewing, return_exceptions=True)
        await asyncio.get_running_loop().shutdown_default_executor()  # or a reading thread keeps its connection
        store.close()


async def _renewed(store, lease):
    while True:
        await asyncio.sleep(1)
        with suppress(StoreError):  # whose response was lost
            await asyncio.to_thread(store.renew, lease)


async def submit(jobs, path, spec=SPEC):
    job, _ = await jobs.create(spec, "alice")
    await jobs.write(job.request_id, 0, path.read_bytes())
    return await jobs.end_source(job.request_id)


async def until(jobs, request_id, condition):
    """Wait for a state, up to a few minutes."""
    async with asyncio.timeout(200):
        while True:
            event = jobs.change(request_id)
            job = await jobs.get(request_id, "alice")
            if condition(job):
                return job
            await event.wait()


async def removed(path):
    """Wait until a file is removed, up to a few minutes: cleanup happens after the job has ended."""
    async with asyncio.timeout(200):
        while path.exists():
            await asyncio.sleep(0.01)


def ended(job):
    return job.state.ended


def published(jobs):
    """Report whether a job's log contains a video fragment."""

    def condition(job):
        news = Tail(jobs.folder(job.request_id).log).news()
        return any(isinstance(piece, Fragment) and piece.track == "video" for piece in news)

    return condition


async def result(jobs, request_id, path):
    key = await jobs.result_key(request_id, "alice")
    path.write_bytes(b"".join([chunk async for chunk in jobs.results.read(key)]))
    return path


def kill_first(jobs, name):
    """Kill the first descendant of a kind: the worker or the attempt."""
    first, *_ = processes.below(f"upres-{name}")
    first.kill()
