"""Measure the overhead of the service: jobs per second with a model that only repeats pixels, over HTTP and as streams.

`python bench/control.py CLIP` starts a separate server and prints a table. Use a clip of one second, so that little time is spent
on decoding and encoding.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import grpc
import httpx
import psutil

from upres.engine.core.frame import Frame
from upres.service.client import Client
from upres.v2 import upscale_pb2 as pb

KEY = "upres_bench_key_of_some_length"
PORTS = {"UPRES_HTTP_PORT": "18190", "UPRES_GRPC_PORT": "18191"}
MODEL = "RealESRGAN_Vid_x2"
CLIENTS = 16
JOBS = 96
POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Nearest:
    """A model that repeats pixels; it is also its session."""

    scale: int
    name: str = "nearest"
    warmup: int | None = 0
    report: str = "numpy"
    digest: str = "nearest"

    def open(self, width: int, height: int) -> "Nearest":
        """Open a session."""
        return self

    def memory(self, width: int, height: int) -> int:
        """Estimate the memory of a session, in bytes."""
        return width * height * self.scale**2 * 3

    def push(self, frame: Frame) -> Iterator[Frame]:
        """Upscale a frame."""
        yield replace(frame, pixels=frame.pixels.repeat(self.scale, 0).repeat(self.scale, 1))

    def flush(self) -> Iterator[Frame]:
        """Yield nothing, since no frame is held back."""
        yield from ()

    def close(self) -> None:
        """Do nothing, since there is nothing to release."""


def load(slug: str, scale: int, content: str) -> tuple[Nearest, None]:
    """Return the model that repeats pixels, regardless of the slug."""
    return Nearest(scale), None


def main() -> None:
    """Start a server with that model, and send it jobs from many concurrent clients."""
    clip = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        settings = {
            "STATE": f"{folder}/state",
            "API_KEY": KEY,
            "MODELS": "control:load",
            "REQUESTS_PER_MINUTE": "1000000",
        }
        environment = {**os.environ, **PORTS, **{f"UPRES_{name}": value for name, value in settings.items()}}
        environment["PYTHONPATH"] = str(Path(__file__).parent)
        serve = [sys.executable, "-c", "from upres.service.cli.main import main; main()", "serve"]
        server = subprocess.Popen(serve, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            for row in rows(clip, psutil.Process(server.pid)):
                sys.stdout.write("{:52} {:8.2f}\n".format(*row))
                sys.stdout.flush()
        finally:
            server.terminate()
            server.wait(60)


def rows(clip: Path, server: psutil.Process) -> Iterator[tuple[str, float]]:
    """Yield the rows of the table: names and values."""
    address = f"127.0.0.1:{PORTS['UPRES_GRPC_PORT']}"
    with grpc.insecure_channel(address) as channel:
        grpc.channel_ready_future(channel).result(60)
    base = f"http://127.0.0.1:{PORTS['UPRES_HTTP_PORT']}"
    headers = {"Authorization": f"Bearer {KEY}", "Accept": "application/json"}
    with Client(address, KEY) as client, httpx.Client(base_url=base, headers=headers, timeout=120) as web:
        by_stream(client, clip)  # warm-up
        yield "stream, to the first fragment, s", median(by_stream(client, clip) for _ in range(5))
        for name, job in (("streams", lambda _: by_stream(client, clip)), ("HTTP", lambda _: by_http(web, clip))):
            busy, start = cpu_seconds(server), time.perf_counter()
            run_all(job)
            yield f"{name}, {CLIENTS} clients, jobs/s", JOBS / (time.perf_counter() - start)
            for part, seconds in (cpu_seconds(server) - busy).items():
                yield f"{name}, CPU of {part}, ms a job", 1000 * seconds / JOBS


def run_all(job: Callable[[int], object]) -> None:
    """Run all jobs from CLIENTS concurrent clients."""
    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(job, range(JOBS)))


def by_stream(client: Client, clip: Path) -> float:
    """Upscale as a stream to its end; returns the seconds to the first fragment."""
    start, first = time.perf_counter(), 0.0
    with clip.open("rb") as file:
        for part in client.stream(file, pb.UpscaleConfig(model=MODEL, preset="ultrafast")):
            if isinstance(part, pb.Fragment) and not first:
                first = time.perf_counter() - start
    return first


def by_http(web: httpx.Client, clip: Path) -> None:
    """Upload over HTTP, and poll until the job is done."""
    answer = web.post("/api/v2/videos/upscales", files={"video": (clip.name, clip.read_bytes())}, data={"model": MODEL})
    url = f"/api/v2/jobs/{answer.raise_for_status().json()['data']['request_id']}"
    while (job := web.get(url).json()["data"])["status"] != "done":
        if job["status"] == "error":
            raise RuntimeError(job)
        time.sleep(POLL_SECONDS)


def cpu_seconds(server: psutil.Process) -> Counter[str]:
    """Sum the CPU time of a server, of its worker, and of the processes that open media, including those they are forked from."""
    total: Counter[str] = Counter()
    for process in (server, *server.children(recursive=True)):
        try:
            times, name = process.cpu_times(), process.name()
        except psutil.Error:  # it has ended, and its parent's counters include it
            continue
        part = "the server" if process == server else "the worker" if name == "upres-worker" else "attempts and probes"
        total[part] += times.user + times.system + times.children_user + times.children_system
    return total


if __name__ == "__main__":
    main()
