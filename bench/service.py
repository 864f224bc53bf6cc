"""Measure the overhead of the service over the engine, and live latency: python bench/service.py CLIP [MODEL].

Starts a separate server and prints a table.
"""

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import grpc
import live

from upres.engine.api import upscale
from upres.engine.models.registry import load
from upres.engine.pipeline.options import Job
from upres.service.client import Client
from upres.v2 import upscale_pb2 as pb

KEY = "upres_bench_key_of_some_length"
START_SECONDS = 60
UPRES = (sys.executable, "-c", "from upres.service.cli.main import main; main()")


def main() -> None:
    """Run the clip through the engine, then through a server as a job, then as a stream."""
    clip, slug = Path(sys.argv[1]), (sys.argv[2:] or ["RealESRGAN_Vid_x2"])[0]
    with tempfile.TemporaryDirectory() as folder:
        engine = by_engine(clip, slug, Path(folder))
    with connected_client() as client:
        rows = by_service(client, clip, pb.UpscaleConfig(model=slug, segment_seconds=0.5))
        lateness = live.rows(client, clip, slug)
    rows = [("engine, model loaded, s", engine), *rows, ("job over engine", rows[0][1] / engine), *lateness]
    for name, value in rows:
        sys.stdout.write(f"{name:48} {value:8.2f}\n")


class Serving(NamedTuple):
    """A separate server: a gRPC client, and the base URL of its HTTP API."""

    client: Client
    base: str


@contextmanager
def connected_client() -> Iterator[Client]:
    """Start a separate server; yields a client."""
    with serving() as server:
        yield server.client


@contextmanager
def serving() -> Iterator[Serving]:
    """Start a separate server on free ports."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        http, grpc_port = one.getsockname()[1], two.getsockname()[1]
    address = f"127.0.0.1:{grpc_port}"
    with tempfile.TemporaryDirectory() as folder:
        ports = {"UPRES_HTTP_PORT": str(http), "UPRES_GRPC_PORT": str(grpc_port)}
        environment = {**os.environ, **ports, "UPRES_STATE": f"{folder}/state", "UPRES_API_KEY": KEY}
        server = subprocess.Popen(
            [*UPRES, "serve"], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            with grpc.insecure_channel(address) as channel:
                grpc.channel_ready_future(channel).result(START_SECONDS)
            with Client(address, KEY) as client:
                yield Serving(client, f"http://127.0.0.1:{http}")
        finally:
            server.terminate()
            server.wait(60)


def by_engine(clip: Path, slug: str, folder: Path) -> float:
    """Measure the engine alone with a loaded model."""
    model, _ = load(slug)
    upscale(clip, folder / "warm.mp4", Job((model,)))
    start = time.perf_counter()
    upscale(clip, folder / "engine.mp4", Job((model,)))
    return time.perf_counter() - start


def by_service(client: Client, clip: Path, config: pb.UpscaleConfig) -> list[tuple[str, float]]:
    """Measure a job from first attempt to done and from submit to done, and a stream to its first fragment and to its end."""
    list(client.watch(client.submit(clip, config).request_id))  # warm-up
    start = time.perf_counter()
    job = list(client.watch(client.submit(clip, config).request_id))[-1]
    whole = time.perf_counter() - start
    attempt = job.ended_at.ToNanoseconds() - job.started_at.ToNanoseconds()
    start, first = time.perf_counter(), 0.0
    with clip.open("rb") as file:
        for part in client.stream(file, config):
            if isinstance(part, pb.Fragment) and part.track == "video" and not first:
                first = time.perf_counter() - start
    rows = [("job, first attempt to done, s", attempt / 1e9), ("job, submit to done, s", whole)]
    return [*rows, ("stream, to the first fragment, s", first), ("stream, all, s", time.perf_counter() - start)]


if __name__ == "__main__":
    main()
