"""Measure the cost of a slow object store: PYTHONPATH=tests/support python bench/slow_store.py OUT.json [--kept].

Jobs run through the service on devices simulated by a model that sleeps (`bench/scaling.py`). Their results, and with --kept also
their sources and logs, are written to a bucket of a local S3 server, which responds without delay in every first run and with a
delay in every second one. Results: the total seconds of the jobs in each run, and the ratio of the medians. Needs the packages of
the tests.
"""

import argparse
import asyncio
import json
import os
import platform
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from faulty_store import access, faulty, s3_server
from scaling import SLEEP_SECONDS, clip

from upres.engine.machine.host import cpu_name
from upres.engine.runtime.base import cpus
from upres.service.domain.policy import Policy
from upres.service.domain.spec import Limits, Spec
from upres.service.execution.base import ExecutorOptions
from upres.service.execution.local import LocalExecutor
from upres.service.execution.probe.probe import Probe
from upres.service.jobs.service import Jobs
from upres.service.storage.job_store import Store
from upres.service.storage.results import Results

DEVICES = 4
JOBS = 6
RUNS = 2  # per store
DELAY = 0.2  # seconds before every response of the slow store
LONGEST_SECONDS = 900.0
SPEC = Spec("RealESRGAN_Vid_x2", segment_seconds=0.5, preset="ultrafast")


async def seconds(folder: Path, source: bytes, store: str, *, kept: bool) -> float:
    """Return the seconds from the submission of the first job to the end of the last, on devices that are ready.

    kept: store the jobs' sources and logs as well.
    """
    policy = Policy(Limits())
    executor = LocalExecutor(ExecutorOptions(workers=DEVICES, slots=2, models="scaling:load", memory_bytes=16 << 30))
    rows = Store(f"sqlite:///{folder / 'jobs.db'}")
    probe = Probe(policy.limits)
    keeps = Results(f"{store}/jobs", "job") if kept else None
    jobs = Jobs(rows, Results(store), executor, policy, folder / "jobs", probe=probe, pull=_pull, kept=keeps)
    await jobs.start()
    try:
        async with asyncio.timeout(LONGEST_SECONDS):
            while sum(device.ready for device in executor.devices) < DEVICES:
                await asyncio.sleep(0.1)
            started = time.perf_counter()
            names = [await _submitted(jobs, source) for _ in range(JOBS)]
            for name in names:
                await _done(jobs, name)
            return time.perf_counter() - started
    finally:
        await jobs.stop()
        probe.close()
        rows.close()


async def _pull(*_: Any) -> None:  # noqa: ANN401 - as of Pull
    """Do nothing, since no job is live."""


async def _submitted(jobs: Jobs, source: bytes) -> str:
    job, _ = await jobs.create(SPEC, "bench")
    await jobs.write(job.request_id, 0, source)
    await jobs.end_source(job.request_id)
    return job.request_id


async def _done(jobs: Jobs, name: str) -> None:
    while True:
        happens = jobs.change(name)
        state = (await jobs.get(name, "bench")).state
        if state.failure is not None:
            raise RuntimeError(f"{name}: {state.failure}")
        if state.ended:
            return
        await happens.wait()


def main() -> None:
    """Measure, and write the results after each run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--kept", action="store_true", help="also keep the jobs' sources and logs in the store")
    options = parser.parse_args()
    out, kept = options.out, options.kept
    os.environ["PYTHONPATH"] = str(Path(__file__).parent)  # workers load the model from there
    facts = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{cpu_name()}, {platform.machine()}, {cpus()} CPUs",
        "devices": DEVICES,
        "jobs": JOBS,
        "sleep_seconds_a_frame": SLEEP_SECONDS,
        "delay_seconds": DELAY,
        "kept": kept,
    }
    rows: list[dict[str, Any]] = []
    with s3_server() as store, faulty(store) as (url, faults), tempfile.TemporaryDirectory() as work:
        os.environ |= access(url)
        source = Path(work) / "source.mp4"
        clip(source)
        for number in range(2 * RUNS):
            faults.delay, folder = DELAY * (number % 2), Path(work) / str(number)
            folder.mkdir()
            elapsed = asyncio.run(seconds(folder, source.read_bytes(), f"s3://bucket/{number}", kept=kept))
            rows.append({"delay": faults.delay, "seconds": round(elapsed, 2), "load": os.getloadavg()[0]})
            sys.stdout.write(f"{json.dumps(rows[-1])}\n")
            sys.stdout.flush()
            fast, slow = ([row["seconds"] for row in rows if bool(row["delay"]) is late] for late in (False, True))
            ratio = round(median(slow) / median(fast), 3) if slow else None
            out.write_text(json.dumps({**facts, "slow_to_fast": ratio, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
