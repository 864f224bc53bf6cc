"""FlashVSR as a job of the service: a real worker process, a real database."""

import asyncio
import importlib
import os

import pytest
import referee
from test_flashvsr_command import film
from upres.engine.flashvsr_manifest import folder_of
from upres.service.executor import LocalExecutor
from upres.service.jobs import Jobs
from upres.service.probe import Probe
from upres.service.results import Results
from upres.service.runner import Policy
from upres.service.spec import Limits, Spec
from upres.service.states import Status
from upres.service.store import Store

torch = importlib.import_module("torch") if os.environ.get("CI") else pytest.importorskip("torch")

from small_flashvsr import WEIGHTS  # noqa: E402 - after the check for torch
from upres.export.flashvsr_onnx import Settings, write_graphs  # noqa: E402


def test_a_job_ends_with_every_frame_in_its_place(tmp_path, monkeypatch):
    monkeypatch.setenv("UPRES_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("UPRES_RANDOM_WEIGHTS", "1")
    write_graphs(WEIGHTS, folder_of("flashvsr-v1.1-tiny"), Settings(profiles=((128, 128),)))
    source = film(tmp_path / "in.mp4", 30)

    async def scenario():
        policy, store = Policy(Limits()), Store(f"sqlite:///{tmp_path}/jobs.db")
        executor = LocalExecutor(workers=1, slots=2, models="upres.service.worker:load")
        results = Results(str(tmp_path / "results"))
        jobs = Jobs(store, results, executor, policy, tmp_path / "jobs", probe=Probe(policy.limits))
        await jobs.start()
        try:
            job, _ = await jobs.create(Spec("FlashVSR_Tiny", scale=2, preset="ultrafast"), "alice")
            await jobs.write(job.request_id, 0, source.read_bytes())
            await jobs.end_source(job.request_id)
            async with asyncio.timeout(120):
                while not job.state.ended:
                    event = jobs.change(job.request_id)
                    job = await jobs.get(job.request_id, "alice")
                    if not job.state.ended:
                        await event.wait()
            assert job.state.status is Status.DONE, job
            key = await jobs.result_key(job.request_id, "alice")
            (tmp_path / "out.mp4").write_bytes(b"".join([chunk async for chunk in jobs.results.read(key)]))
        finally:
            await jobs.stop()
            store.close()

    asyncio.run(scenario())
    assert referee.size(tmp_path / "out.mp4") == (128, 96)
    assert referee.packets(tmp_path / "out.mp4") == pytest.approx(referee.packets(source), abs=1e-3)
