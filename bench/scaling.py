"""Measure how a job scales over devices, simulated by a model that sleeps: python bench/scaling.py OUT.json [--ray N].

Each of N devices is a separate worker, on this machine or on a node of a Ray cluster that this script starts; decoding and encoding
take a small part of the sleep, so two cores suffice for many devices. Results: seconds of the same job for each N, efficiency
relative to N = 1, CPU use of the machine, `cpu_seconds` of the job's workers, whether the bytes are the same, and the milliseconds
of an empty order until its verdict.
"""

import argparse
import asyncio
import importlib.metadata
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from statistics import median
from typing import Any

import av
import numpy as np
import psutil

from upres.engine.core.frame import Frame
from upres.engine.machine.host import cpu_name
from upres.engine.runtime.base import cpus
from upres.service.domain.spec import Limits, Spec
from upres.service.execution.base import VERDICTS, Executor, ExecutorOptions, Report, make_executor
from upres.service.execution.local import LocalExecutor
from upres.service.execution.order import Order
from upres.service.storage.job_folder import JobFolder

DEVICES = (1, 2, 4, 8, 16)
SLEEP_SECONDS = 0.4  # per frame
FRAMES, RATE, WIDTH, HEIGHT = 160, 10, 64, 48
ORDERS = 30  # empty orders
WAIT_SECONDS = 600.0
MEMORY = 16 << 30


@dataclass(frozen=True)
class Sleeper:
    """A model that repeats pixels after a sleep; it is also its session."""

    scale: int
    name: str = "sleeper"
    warmup: int | None = 0
    report: str = "numpy"
    digest: str = "sleeper"

    def open(self, width: int, height: int) -> "Sleeper":
        """Open a session."""
        return self

    def memory(self, width: int, height: int) -> int:
        """Estimate the memory of a session, in bytes."""
        return width * height * self.scale**2 * 3

    def push(self, frame: Frame) -> Iterator[Frame]:
        """Upscale a frame."""
        time.sleep(SLEEP_SECONDS)
        yield replace(frame, pixels=frame.pixels.repeat(self.scale, 0).repeat(self.scale, 1))

    def flush(self) -> Iterator[Frame]:
        """Yield nothing, since no frame is held back."""
        yield from ()

    def close(self) -> None:
        """Do nothing, since there is nothing to close."""


def load(slug: str, scale: int, content: str) -> tuple[Sleeper, None]:
    """Return the model to a worker."""
    return Sleeper(scale), None


class Run:
    """An executor whose orders are timed."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._verdicts: dict[str, asyncio.Future[Report]] = {}

    async def start(self, devices: int) -> None:
        """Start the executor and wait until all devices are ready."""
        await self._executor.start(self._on_report)
        async with asyncio.timeout(WAIT_SECONDS):
            while sum(worker.ready for worker in self._executor._workers) < devices:  # type: ignore[attr-defined]
                await asyncio.sleep(0.1)

    async def seconds(self, order: Order) -> float:
        """Run an order and return the seconds until its verdict."""
        self._verdicts[order.request_id] = verdict = asyncio.get_running_loop().create_future()
        started = time.perf_counter()
        await self._executor.run(order)
        async with asyncio.timeout(WAIT_SECONDS):
            report = await verdict
        if report["report"] not in ("joined", "made"):
            raise RuntimeError(f"{order.request_id}: {report}")
        return time.perf_counter() - started

    async def _on_report(self, request_id: str, report: Report) -> None:
        if report["report"] in VERDICTS:
            self._verdicts[request_id].set_result(report)


def clip(path: Path) -> None:
    """Write the source: moving frames with a keyframe every half second."""
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", RATE, options={"preset": "ultrafast", "g": "5", "bf": "0"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        ramp = np.add.outer(np.arange(HEIGHT), np.arange(WIDTH))[..., None] + np.array([0, 60, 120])
        for number in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(((ramp + number) % 256).astype(np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def order(source: Path, folder: Path) -> Order:
    """Create the job in a separate folder; returns its order."""
    job = JobFolder(folder)
    job.make()
    job.append(0, source.read_bytes())
    job.end_source()
    spec = Spec("RealESRGAN_Vid_x2", segment_seconds=0.5, preset="ultrafast")
    return Order(
        folder.name,
        "bench",
        str(folder),
        spec.as_json(),
        asdict(Limits()),
        memory_bytes=4 << 30,
        cpu_seconds=None,
        file_bytes=1 << 30,
        wall_seconds=None,
    )


def cpu_seconds(executor: Executor) -> float:
    """Sum the CPU seconds of local workers and all their child processes so far; workers on nodes are not included."""
    workers = executor._workers if isinstance(executor, LocalExecutor) else []
    processes = [psutil.Process(worker._process.pid) for worker in workers]  # type: ignore[attr-defined]
    total = 0.0
    for process in [*processes, *(child for each in processes for child in each.children(recursive=True))]:
        with suppress(psutil.NoSuchProcess):
            total += sum(process.cpu_times()[:4])  # including children that it has waited for
    return total


async def measure(name: str, devices: int, source: Path, work: Path) -> dict[str, Any]:
    """Measure an executor with a number of devices."""
    options = ExecutorOptions(workers=devices, models="scaling:load", memory_bytes=MEMORY, folder=work)
    executor = make_executor(name, options)
    run, job = Run(executor), order(source, work / f"{name}-{devices}")
    await run.start(devices)
    try:
        psutil.cpu_percent()  # starts the measurement
        before = cpu_seconds(executor)
        seconds = await run.seconds(job)
        busy, spent = psutil.cpu_percent() / 100, cpu_seconds(executor) - before
        orders = [await run.seconds(replace(job, range_number=0, devices=1)) for _ in range(ORDERS * (devices <= 2))]
    finally:
        await executor.stop()
    joined = JobFolder(Path(job.folder)).joined.read_bytes()
    row = {"executor": name, "devices": devices, "seconds": round(seconds, 3)}
    row |= {"cpus_busy": round(busy, 2), "cpu_seconds": round(spent, 2) or None}
    milliseconds = round(1000 * median(orders), 1) if orders else None
    return {**row, "sha256": sha256(joined).hexdigest(), "order_ms": milliseconds, "load": os.getloadavg()[0]}


def main() -> None:
    """Measure, and write the results after each row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument(
        "--ray", type=int, default=0, metavar="N", help="also measure on a Ray cluster, up to N devices"
    )
    parser.add_argument("--devices", type=int, nargs="+", default=DEVICES)
    chosen = parser.parse_args()
    os.environ["PYTHONPATH"] = str(Path(__file__).parent)  # workers load this module
    facts = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{cpu_name()}, {platform.machine()}, {cpus()} CPUs",
        "versions": {each: importlib.metadata.version(each) for each in ("upres", "av", *(["ray"] * bool(chosen.ray)))},
        "frames": FRAMES,
        "sleep_seconds_a_frame": SLEEP_SECONDS,
        "load_at_start": os.getloadavg(),
        "real_time": os.sched_getscheduler(0) in (os.SCHED_FIFO, os.SCHED_RR),  # other load does not interfere
    }
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as work:
        source = Path(work) / "source.mp4"
        clip(source)
        cluster = _cluster() if chosen.ray else None
        for devices in chosen.devices:
            for name in ("local", *(["ray"] * (devices <= chosen.ray))):
                rows.append(asyncio.run(measure(name, devices, source, Path(work))))
                one = next(row["seconds"] for row in rows if row["executor"] == name)
                rows[-1]["efficiency"] = round(one / rows[-1]["seconds"] / (devices / chosen.devices[0]), 3)
                sys.stdout.write(f"{json.dumps(rows[-1])}\n")
                same = len({row["sha256"] for row in rows}) == 1
                chosen.out.write_text(json.dumps({**facts, "same_bytes": same, "rows": rows}, indent=1) + "\n")
        if cluster is not None:
            cluster.shutdown()


def _cluster() -> Any:  # noqa: ANN401 - Ray's
    """Start a cluster of one node, which offers enough CPUs for all devices, since they sleep."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    options = {"num_cpus": 4 * sum(DEVICES), "object_store_memory": 80 << 20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=options)
    os.environ["RAY_ADDRESS"] = cluster.address
    return cluster


if __name__ == "__main__":
    main()
