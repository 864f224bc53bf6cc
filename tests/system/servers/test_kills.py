"""Servers, devices, nodes and the database are killed at random: no job is lost, no byte differs, and clients finish without help.

Two servers share a PostgreSQL database and a folder, or in place of that a bucket, which is away at random as well; a device on
each of two nodes of a Ray cluster makes their jobs, in ranges. Choose with `-k folder` or `-k bucket`.
KILLS: how many (200). SEED: of when and what, to repeat a run; by default another one each time.
"""

import json
import os
import random
import signal
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from types import SimpleNamespace

import databases
import httpx
import processes
import psutil
import pytest
import ray_nodes
from faulty_store import access, faulty, s3_server
from paths import SOAK
from serving import KEY, ServerProcess

from upres.service.client import Client
from upres.v2 import upscale_pb2 as pb

pytestmark = pytest.mark.scale

CONFIG = pb.UpscaleConfig(model="RealESRGAN_Vid_x2", segment_seconds=0.5, preset="ultrafast")
SECONDS, FRAMES, RANGE_FRAMES = 24, 240, 30  # of the clip; what two devices make of it as one range: 6 segments of 48
DEVICES = 2
KINDS = {
    "folder": ("server", "actor", "raylet", "postgres"),
    "bucket": ("server", "actor", "raylet", "postgres", "bucket"),
}
MODEL = {"models": "fake:paced", "job_memory_bytes": 4 << 30}
PATIENCE_SECONDS = 300  # of the client; the longest that a job may take
FIGURES = {"folder": SOAK / "kills.jsonl", "bucket": SOAK / "kills-bucket.jsonl"}


@pytest.fixture(scope="module")
def count(tmp_path_factory):
    """The file that has a byte for each frame that any device has made."""
    with pytest.MonkeyPatch.context() as patch:
        file = tmp_path_factory.mktemp("count") / "frames"
        file.touch()
        patch.setenv("FAKE_COUNT", str(file))
        yield file


@pytest.fixture(scope="module")
def expected(count, clip, tmp_path_factory):
    """The result of an undisturbed job: of one device, on SQLite."""
    folder = tmp_path_factory.mktemp("undisturbed")
    with ServerProcess(folder / "state", **MODEL) as server, Client(server.target, KEY) as client:
        return finished(client, clip("a.mp4", SECONDS), folder / "out.mp4")[0]


def finished(client, path, out, begun=None, *, streamed=False):
    """Let a client have a clip upscaled, and fetch the result: its bytes, and the job. begun: set once some of it is made."""
    begun = begun or threading.Event()
    try:
        if streamed:
            with path.open("rb") as source:
                for job in client.stream(source, CONFIG):
                    if isinstance(job, pb.Fragment):
                        begun.set()
        else:
            for job in client.watch(client.submit(path, CONFIG).request_id):
                if job.progress > 0:
                    begun.set()
    finally:
        begun.set()
    assert job.status == pb.Job.STATUS_DONE, job
    client.download(job.request_id, out)
    return out.read_bytes(), job


class Fleet:
    """Two servers, of which one works, a database, and a cluster; whatever ends is started again, as by a supervisor.

    bucket: its URL and faults; None: the servers share a folder.
    """

    def __init__(self, folder, postgres, nodes, bucket):
        options = {"database": databases.fresh(), "executor": "ray", "workers": 1, **MODEL}
        options |= {"store": bucket.url} if bucket else {}
        self._servers = []
        for name in ("first", "second"):
            own = folder / name if bucket else folder
            own.mkdir(exist_ok=True)
            self._servers.append(ServerProcess(own / "state", name, **options))
        self._postgres, self._nodes, self._bucket = postgres, nodes, bucket
        self.target = "ipv4:" + ",".join(server.target for server in self._servers)

    def keep(self):
        """Start every server and node that does not run; any may end at once, as a server does whose database is away."""
        for server in self._servers:
            if not server.runs:
                server.start(until=(b"standing by", b"gRPC on"))
        if len(self._nodes.worker_nodes) < DEVICES:
            with suppress(Exception):  # Ray's, where the machine is so slow that it gives the start up
                ray_nodes.joined(self._nodes)

    def ready(self):
        """Wait until both devices are."""
        end = time.monotonic() + PATIENCE_SECONDS
        ready = "upres_device_ready{"
        while sum(line.endswith(" 1.0") for line in self._metrics(ready, *self._servers)) < DEVICES:
            assert time.monotonic() < end
            time.sleep(0.1)

    def _metrics(self, name, *servers):
        """The lines of a metric, of the servers that answer."""
        for server in servers:
            with suppress(httpx.TransportError):
                lines = httpx.get(f"{server.base}/metrics", timeout=60).text.splitlines()
                yield from (line for line in lines if line.startswith(name))

    def kill(self, kind, draw):
        """Kill one of a kind; what, or None where there is none now."""
        return getattr(self, f"_kill_{kind}")(draw)

    def _kill_server(self, draw):
        server = draw.choice([server for server in self._servers if server.runs] or [None])
        if server is None:
            return None
        stood_by = "upres_standing_by 1.0" in [*self._metrics("upres_standing_by", server)]
        server.kill()
        return f"{server.log.stem}, which stood by" if stood_by else server.log.stem

    def _kill_actor(self, draw):
        below = psutil.Process().children(recursive=True)
        actors = [process.pid for process in below if processes.command(process).startswith("ray::Device")]
        pid = draw.choice(sorted(actors) or [None])
        if pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return pid

    def _kill_raylet(self, draw):
        if not self._nodes.worker_nodes:
            return None
        node = draw.choice(sorted(self._nodes.worker_nodes, key=lambda node: node.node_id))
        self._nodes.remove_node(node, allow_graceful=False)
        return node.node_id[:8]

    def _kill_postgres(self, draw):
        self._postgres.kill()
        time.sleep(seconds := draw.choice([0, 1, 4]))
        self._postgres.start()
        return f"away for {seconds} s"

    def _kill_bucket(self, draw):
        self._bucket.faults.away = True
        time.sleep(seconds := draw.choice([1, 4, 10]))
        self._bucket.faults.away = False
        return f"away for {seconds} s"

    def end(self):
        for server in self._servers:
            server.end()


@pytest.fixture(params=["folder", "bucket"])
def shared(request, monkeypatch):
    """What the servers share besides the database: a folder, which is None, or a bucket."""
    if request.param == "folder":
        yield None
        return
    with s3_server() as server, faulty(server) as (url, faults):
        for name, value in access(url).items():
            monkeypatch.setenv(name, value)
        yield SimpleNamespace(url="s3://bucket/jobs", faults=faults)


@contextmanager
def fleet(folder, postgres, bucket):
    """A fleet that works."""
    with ray_nodes.cluster(0, *[4] * DEVICES) as nodes:
        running = Fleet(folder, postgres, nodes, bucket)
        try:
            running.keep()
            running.ready()
            yield running
        finally:
            running.end()


def disturbed(running, client, path, out, kind, draw, longest, clients):
    """One job, and one kill at a random time of it, or a little later; the result, its job, and what was killed when."""
    streamed, while_running, begun = draw.random() < 0.25, draw.random() < 0.6, threading.Event()
    job = clients.submit(finished, client, path, out, begun, streamed=streamed)
    if while_running:
        kept_until(running, begun.is_set)
    time.sleep(seconds := draw.uniform(0, longest / 2 if while_running else longest))
    killed = running.kill(kind, draw)
    kept_until(running, job.done)
    moment = {"while_made": while_running, "after_seconds": round(seconds, 2)}
    return *job.result(), {"kind": kind, "killed": killed, "streamed": streamed, **moment}


def kept_until(running, condition):
    """Keep a fleet until something is so, at most as long as a client waits."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < end, "a job does not get on"
        running.keep()
        time.sleep(0.2)
    running.keep()


def kill_at_random(running, kinds, path, folder, kills, seed, expected, count):
    """One job after the other, each disturbed by one kill, until there were enough of these; what happened."""
    draw, number = random.Random(seed), 0
    with ThreadPoolExecutor(1) as clients, Client(running.target, KEY, patience=PATIENCE_SECONDS) as client:
        start = time.monotonic()
        assert finished(client, path, folder / "out.mp4")[0] == expected
        longest = 1.2 * (time.monotonic() - start)
        while kills:
            number, start, before = number + 1, time.monotonic(), count.stat().st_size
            kind = kinds[number % len(kinds)]
            data, job, facts = disturbed(running, client, path, folder / "out.mp4", kind, draw, longest, clients)
            kills -= facts["killed"] is not None
            again = count.stat().st_size - before - FRAMES
            yield {
                "seed": seed,
                "job": number,
                **facts,
                "attempts": job.attempts,
                "frames_again": again,
                "result_equal": data == expected,
                "seconds": round(time.monotonic() - start, 2),
                "load": round(os.getloadavg()[0], 1),
            }


@pytest.mark.soak
@pytest.mark.timeout(4 * 3600)  # also where it is asked for by name
def test_random_kills_lose_no_job_and_no_byte_and_each_costs_less_than_a_range(
    count, postgres, clip, expected, tmp_path, shared
):
    """Less than a range, but where a server is killed that has no folder in common with the next: see docs/scale.md."""
    kills, seed = int(os.environ.get("KILLS", 200)), int(os.environ.get("SEED", random.randrange(1 << 30)))
    lines, path, where = [], clip("a.mp4", SECONDS), "folder" if shared is None else "bucket"
    SOAK.mkdir(exist_ok=True)
    with FIGURES[where].open("w", buffering=1) as file:
        try:
            with fleet(tmp_path, postgres, shared) as running:
                for line in kill_at_random(running, KINDS[where], path, tmp_path, kills, seed, expected, count):
                    lines.append(line)
                    file.write(json.dumps(line) + "\n")
        finally:
            file.write(json.dumps(total := summed(lines, seed)) + "\n")
    assert total["results_equal"] == len(lines)
    for line in lines:
        limit = FRAMES if shared is not None and line["kind"] in ("server", "postgres") else RANGE_FRAMES
        assert line["frames_again"] <= limit, line


def summed(lines, seed):
    """What there is to say of all jobs."""
    return {
        "at": time.strftime("%Y-%m-%d"),
        "seed": seed,
        "jobs": len(lines),
        "kills": Counter(line["kind"] for line in lines if line["killed"] is not None),
        "results_equal": sum(line["result_equal"] for line in lines),
        "range_frames": RANGE_FRAMES,
        "most_frames_again": max((line["frames_again"] for line in lines), default=0),
        "frames_again": sum(line["frames_again"] for line in lines),
        "seconds": round(sum(line["seconds"] for line in lines)),
    }
