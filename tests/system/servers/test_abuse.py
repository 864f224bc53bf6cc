"""Misbehaving clients: the server's memory stays bounded and other clients are served. Writes figures to soak/."""

import json
import random
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import grpc
import httpx
import psutil
import pytest
from media import clip as encoded
from paths import SOAK
from serving import KEY, OWN_CONNECTION, Rpc, ServerProcess

from upres.v2 import upscale_pb2 as pb

pytestmark = pytest.mark.soak
CONFIG = pb.UpscaleConfig(model="RealESRGAN_Vid_x2", segment_seconds=0.5, preset="ultrafast")
LARGE = pb.UpscaleConfig(model="RealESRGAN_Vid_x2", segment_seconds=0.5, preset="ultrafast", codec="lossless")
BOUND = 300 << 20  # maximum growth of the server process in bytes
JOBS = 25  # jobs of an ordinary client, run without and with the misbehaving ones
FIGURES = SOAK / "abuse.jsonl"


@pytest.fixture
def server(tmp_path):
    with ServerProcess(tmp_path / "state", source_idle_seconds=5, requests_per_minute=10_000) as process:
        process.ready()
        yield process


class Beating:
    """Calls `beat` repeatedly in a thread while the context is active."""

    seconds = 1.0

    def __init__(self):
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self):
        while not self._ended.wait(self.seconds):
            self.beat()

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        self._thread.join()


class Memory(Beating):
    """The server process's resident memory. samples: bytes."""

    seconds = 0.5

    def __init__(self, server):
        super().__init__()
        self._process = psutil.Process(server.process.pid)
        self.samples = [self._process.memory_info().rss]

    def beat(self):
        self.samples.append(self._process.memory_info().rss)


class Ordinary:
    """A well-behaved client: the durations of its jobs, and the server's memory during them."""

    def __init__(self, server, path):
        self._server, self._path = server, path

    def served(self):
        """Run its jobs one after the other; return seconds per job and samples of the server's memory."""
        seconds = []
        with Rpc(self._server.target) as rpc, Memory(self._server) as memory:
            for _ in range(JOBS):
                start = time.perf_counter()
                job = rpc.create(self._path.read_bytes(), CONFIG)
                assert list(rpc.watch(job.request_id))[-1].event == "done"
                seconds.append(round(time.perf_counter() - start, 2))
        return seconds, memory.samples


@contextmanager
def measured(server, clip, what, **facts):
    """Measure memory and service without the misbehaving clients, then with them; the context manager starts them."""
    ordinary = Ordinary(server, clip())
    ordinary.served()  # once beforehand, so that everything is loaded
    alone, calm = ordinary.served()
    with Memory(server) as memory, ExitStack() as others:
        yield others, facts
        together, _ = ordinary.served()
    grown = max(memory.samples) - max(calm)
    every = -(-len(memory.samples) // 30)
    figures = {
        "job_seconds_without": alone,
        "job_seconds_with": together,
        "rss_mib_without": mib(max(calm)),
        "rss_mib_with": [mib(max(memory.samples[i : i + every])) for i in range(0, len(memory.samples), every)],
        "rss_mib_every_seconds": every * Memory.seconds,
        "grown_mib": mib(grown),
    }
    note({"what": what, "at": time.strftime("%Y-%m-%d"), **facts, **figures})
    assert grown < BOUND


def mib(count):
    return round(count / 2**20, 1)


def note(line):
    """Write a line of figures, replacing the previous measurement."""
    lines = [json.loads(text) for text in FIGURES.read_text().splitlines()] if FIGURES.exists() else []
    kept = [other for other in lines if other["what"] != line["what"]]
    FIGURES.write_text("".join(json.dumps(each) + "\n" for each in [*kept, line]))


def test_a_thousand_idle_connections(server, clip):
    with measured(server, clip, "idle connections", connections=1000) as (others, _):
        for _ in range(1000):
            channel = grpc.insecure_channel(server.target, options=OWN_CONNECTION)
            others.callback(channel.close)
            grpc.channel_ready_future(channel).result(60)


class SlowReaders(Beating):
    """Slow readers of one result over gRPC and HTTP, each on its own connection."""

    def __init__(self, server, request_id, count):
        super().__init__()
        with httpx.Client(base_url=server.base, headers={"Authorization": f"Bearer {KEY}"}) as web:
            url = httpx.URL(web.get(f"/api/v2/jobs/{request_id}").json()["data"]["result_url"])
        what = pb.ReadResultRequest(request_id=request_id, log=pb.ReadResultRequest.Log())
        self._rpcs = [Rpc(server.target) for _ in range(count)]
        self._calls = [rpc.jobs.ReadResult(what, metadata=rpc.metadata) for rpc in self._rpcs]
        self._sockets = [_request_socket(url) for _ in range(count)]
        self.messages = self.bytes = 0

    def beat(self):
        for call in self._calls:
            next(call)
        for reading in self._sockets:
            self.bytes += len(reading.recv(1))
        self.messages += len(self._calls)

    def __exit__(self, *caught):
        super().__exit__(*caught)
        for call in self._calls:
            call.cancel()
        for closing in (*[rpc.channel for rpc in self._rpcs], *self._sockets):
            closing.close()


def _request_socket(url):
    """Open a socket with a small receive window and request a URL."""
    reading = socket.socket()
    reading.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    reading.settimeout(30)
    reading.connect((url.host, url.port))
    reading.sendall(b"GET " + url.raw_path + b" HTTP/1.1\r\nHost: upres\r\n\r\n")
    return reading


def test_slow_readers_of_a_large_result(server, clip, tmp_path):
    noise = "color=gray:size=640x360:rate=10:duration=20,noise=alls=100:allf=t"
    large = encoded(tmp_path / "noise.mp4", "-c:v", "libx264", "-preset", "ultrafast", "-crf", "20", picture=noise)
    with Rpc(server.target) as rpc:
        job = rpc.create(large.read_bytes(), LARGE)
        assert list(rpc.watch(job.request_id))[-1].event == "done"
        size = rpc.get(job.request_id).totals.bytes
    assert size > 200 << 20
    what = "readers of a byte now and then"
    with measured(server, clip, what, result_mib=mib(size), grpc_readers=50, http_readers=50) as (others, facts):
        readers = others.enter_context(SlowReaders(server, job.request_id, 50))
        others.callback(lambda: facts.update(grpc_messages_read=readers.messages, http_bytes_read=readers.bytes))
    assert readers.messages and readers.bytes


def stopped(server, size):
    """Open an HTTP upload that announces more data than it sends."""
    sending = socket.create_connection(("127.0.0.1", server.settings["http_port"]))
    head = f'--x\r\nContent-Disposition: form-data; name="video"; filename="a.mp4"\r\n\r\n{"x" * size}'
    request = f"POST /api/v2/videos/upscales HTTP/1.1\r\nHost: upres\r\nAuthorization: Bearer {KEY}\r\n"
    sending.sendall(
        f"{request}Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 50000000\r\n\r\n{head}".encode()
    )
    return sending


def test_senders_that_stop(server, clip):
    with (
        measured(server, clip, "senders that stop", grpc_streams=20, http_uploads=100) as (others, _),
        Rpc(server.target) as rpc,
    ):
        for _ in range(100):
            others.enter_context(stopped(server, 900_000))
        threads = others.enter_context(ThreadPoolExecutor(20))
        half = clip("a.ts").read_bytes()[:20_000]
        ends = [threads.submit(streamed, rpc, half, end=False) for _ in range(20)]
        assert {end.result(120) for end in ends} == {"SOURCE_INCOMPLETE"}


def streamed(rpc, data, end):
    """Return why a stream of these bytes failed; if it does not end, its sender stays idle until it fails."""
    ended = threading.Event()

    def requests():
        yield pb.UpscaleRequest(config=CONFIG)
        yield pb.UpscaleRequest(chunk=pb.SourceChunk(data=data))
        if end:
            yield pb.UpscaleRequest(end=True)
        else:
            ended.wait(100)

    try:
        *_, last = rpc.call(rpc.upscale.Upscale, requests(), timeout=100)
        return last.job.error.reason
    finally:
        ended.set()


def test_senders_of_garbage(server, clip):
    chance = random.Random(3)
    with (
        measured(server, clip, "senders of garbage", jobs=20, connections=100) as (others, _),
        Rpc(server.target) as rpc,
    ):
        for number in range(100):
            port = server.settings["http_port" if number % 2 else "grpc_port"]
            sending = others.enter_context(socket.create_connection(("127.0.0.1", port)))
            sending.sendall(chance.randbytes(100_000))
        threads = others.enter_context(ThreadPoolExecutor(4))
        ends = [threads.submit(streamed, rpc, chance.randbytes(100_000), end=True) for _ in range(20)]
        assert {end.result(120) for end in ends} == {"SOURCE_UNPROCESSABLE"}
