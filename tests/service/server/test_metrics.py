"""Metrics of a real server after real jobs: valid, for every device and model, and without text from clients."""

import asyncio
import threading
import time
from pathlib import Path

import httpx
import media
import pytest
from prometheus_client.parser import text_string_to_metric_families
from serving import Rpc, ServerProcess

from upres.service.domain.errors import StoreError
from upres.service.domain.policy import Policy
from upres.service.domain.spec import Limits
from upres.service.execution.base import DeviceState, Load
from upres.service.server.metrics import Metrics
from upres.service.telemetry.tally import Tally
from upres.v2 import upscale_pb2 as pb

MODEL = "RealESRGAN_Vid_x2"
WORD = "a-word-of-a-client"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with ServerProcess(tmp_path_factory.mktemp("metrics") / "state") as server:
        yield server.ready()


@pytest.fixture(scope="module")
def done_job(server, clips):
    """A job that is done, and one that has failed."""
    with Rpc(server.target) as rpc:
        config = pb.UpscaleConfig(model=MODEL, preset="ultrafast")
        done = rpc.create(media.clip(clips / "metrics.mp4", "-c:v", "libx264").read_bytes(), config)
        *_, last = rpc.watch(done.request_id)
        assert last.job.status == pb.Job.STATUS_DONE
        with pytest.raises(Exception, match="INVALID_ARGUMENT"):
            rpc.create(b"no video at all" * 99, config)
    return done


def samples(server):
    """The samples by name and labels, as Prometheus parses them."""
    families = text_string_to_metric_families(httpx.get(f"{server.base}/metrics").text)
    listed = [sample for family in families for sample in family.samples]
    values = {(sample.name, *sorted(sample.labels.items())): sample.value for sample in listed}
    assert len(values) == len(listed)  # no duplicates, which Prometheus would reject
    return values


def test_a_job_is_counted_by_its_device_and_model(server, done_job):
    while samples(server).get(("upres_frames_total", ("device", "0"), ("model", MODEL))) != 10:
        time.sleep(0.05)  # the device reports once a second
    values = samples(server)
    assert values["upres_device_busy_seconds_total", ("device", "0")] > 0
    assert values["upres_device_ready", ("device", "0")] == 1
    assert values["upres_device_memory_limit_bytes", ("device", "0")] > 0
    for stage in ("read", "infer", "encode", "queue"):
        assert values["upres_stage_seconds_total", ("model", MODEL), ("stage", stage)] > 0
    assert values["upres_attempts_total", ("model", MODEL), ("outcome", "joined")] == 1
    assert values["upres_failed_jobs_total", ("reason", "SOURCE_UNPROCESSABLE")] == 1
    assert values["upres_jobs", ("status", "done")] == 1


def test_requests_are_counted_by_route_and_code_and_never_by_what_a_client_calls_them(server, done_job):
    key = {"Authorization": f"Bearer {server.settings['api_key']}"}
    with httpx.Client(base_url=server.base) as client:
        for path in ("v2/jobs", "v1/client/request-status"):
            assert client.get(f"/api/{path}/{done_job.request_id}", headers=key).status_code == 200
        assert client.get(f"/api/v2/jobs/{done_job.request_id}/", headers=key).status_code == 200
        assert client.get("/api/v2/jobs/1").status_code == 401
        for path in (f"/{WORD}", f"/static-offline-docs/{WORD}", f"/results/{WORD}.mp4", f"/api/v2/jobs/{WORD}"):
            client.get(path, headers=key)
        client.request(WORD.upper(), "/healthz")
    values = samples(server)
    of = {name[1:]: value for name, value in values.items() if name[0] == "upres_http_requests_total"}
    assert of[("code", "200"), ("method", "GET"), ("route", "/api/v2/jobs/{request_id}")] == 2
    assert of[("code", "200"), ("method", "GET"), ("route", "/api/v1/client/request-status/{request_id}")] == 1
    assert of[("code", "404"), ("method", "GET"), ("route", "/api/v2/jobs/{request_id}")] == 1
    assert of[("code", "404"), ("method", "GET"), ("route", "/results/{name}")] == 1
    assert of[("code", "401"), ("method", "GET"), ("route", "other")] == 1
    assert values["upres_grpc_requests_total", ("code", "OK"), ("method", "JobService.CreateJob")] == 1
    assert values["upres_grpc_requests_total", ("code", "INVALID_ARGUMENT"), ("method", "JobService.CreateJob")] == 1
    text = httpx.get(f"{server.base}/metrics").text
    assert WORD not in text.lower() and done_job.request_id not in text and 'default"' not in text


class Gone:
    """A database that does not respond."""

    server = None

    def count(self):
        raise StoreError("it is away")


class Scheduler:
    """The attributes of jobs and devices that metrics use, without any jobs."""

    ready, attempts, store = True, (), Gone()
    policy = Policy(Limits())

    def __init__(self, *devices):
        self.scheduler = self.executor = self.queue = self.live = self
        self.room = self.live_room = self.oldest = 0
        self.owners = self.rings = self.reservations = ()
        self.devices = devices
        self.late = Tally()

    def __len__(self):
        return 0


def test_however_many_ask_at_once_the_database_is_asked_once_and_one_who_leaves_costs_the_others_nothing():
    queries, over = [], threading.Event()

    class Slow:
        server = None

        def count(self):
            queries.append(1)
            over.wait(20)
            raise StoreError("it is away")

    async def scenario():
        jobs = Scheduler()
        jobs.store = Slow()
        metrics = Metrics(jobs, None, Tally(), Path.cwd())
        first, *calls = [asyncio.create_task(metrics.text()) for _ in range(50)]
        while not queries:
            await asyncio.sleep(0.01)
        first.cancel()
        over.set()
        texts = [text for text, _ in await asyncio.gather(*calls)]
        assert len(queries) == 1 and all(b"upres_database_up 0.0" in text for text in texts)
        await metrics.text()
        assert len(queries) == 2

    asyncio.run(scenario())


def test_metrics_are_there_while_the_database_is_not():
    jobs = Scheduler(DeviceState("a/0", True, 1, Load(2.5, {MODEL: 7}, memory_waiting=1, encoders=2, encoder_limit=8)))
    text, _ = asyncio.run(Metrics(jobs, None, Tally(), Path.cwd()).text())
    lines = text.decode().splitlines()
    assert "upres_database_up 0.0" in lines and not any(line.startswith("upres_jobs{") for line in lines)
    assert f'upres_frames_total{{device="a/0",model="{MODEL}"}} 7.0' in lines
    assert 'upres_device_encoder_sessions{device="a/0"} 2.0' in lines
    assert 'upres_device_memory_waiting{device="a/0"} 1.0' in lines
