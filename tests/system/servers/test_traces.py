"""Traces as a collector receives them: from the caller's span through queue and attempts to ranges and stages; none if off."""

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import grpc
import httpx
import processes
import pytest
from collector import collecting
from paths import SUPPORT
from serving import KEY, Rpc, ServerProcess, free_port
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from upres.v2 import upscale_pb2 as pb

if not os.environ.get("CI"):
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")

MODEL = "RealESRGAN_Vid_x2"
UPRES = str(Path(sys.executable).with_name("upres"))
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
CALLER = f"00-{TRACE}-{SPAN}-01"
BEARER = {"Authorization": f"Bearer {KEY}"}
SECRET = "a-token-of-the-collector"
STAGES = {"read", "infer", "encode"}


@pytest.fixture(scope="module")
def collector():
    with collecting() as collector:
        yield collector


@pytest.fixture(scope="module")
def traced(collector):
    """The operator's settings."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        patch.setenv("OTEL_EXPORTER_OTLP_HEADERS", f"x-token={SECRET}")
        patch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        yield


@pytest.fixture(scope="module")
def server(traced, tmp_path_factory):
    with ServerProcess(tmp_path_factory.mktemp("traced") / "state", workers=2, job_memory_bytes=4 << 30) as server:
        server.ready()
        ready = ('upres_device_ready{device="0"} 1.0', 'upres_device_ready{device="1"} 1.0')
        while not all(line in httpx.get(f"{server.base}/metrics").text for line in ready):
            time.sleep(0.05)
        yield server


def submit(server, clip, **headers):
    """Run a job over HTTP to its successful end; return its id."""
    form = {"model": MODEL, "segment_seconds": "0.5", "preset": "ultrafast"}
    with clip.open("rb") as file:
        url = f"{server.base}/api/v2/videos/upscales"
        answer = httpx.post(url, data=form, files={"video": file}, headers={**BEARER, **headers}, timeout=60)
    request_id = answer.json()["data"]["request_id"]
    with Rpc(server.target) as rpc:
        assert [event.job.status for event in rpc.watch(request_id)][-1] == pb.Job.STATUS_DONE
    return request_id


def facts(span):
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in span.attributes}


def of_job(collector, request_id):
    """Return the spans of a job's trace by name, once its attempt has ended."""

    def attempts(spans):
        return [span for span in spans if span.name == "attempt" and facts(span)["upres.request_id"] == request_id]

    [attempt] = attempts(collector.wait(attempts))
    named = {}
    for span in collector.wait(lambda spans: any(span.span_id == attempt.parent_span_id for span in spans)):
        if span.trace_id == attempt.trace_id:
            named.setdefault(span.name, []).append(span)
    return attempt, named


def inside(part, whole):
    return (
        whole.start_time_unix_nano <= part.start_time_unix_nano <= part.end_time_unix_nano <= whole.end_time_unix_nano
    )


def stages_of(span, named):
    return {name: each for name in STAGES for each in named.get(name, ()) if each.parent_span_id == span.span_id}


def test_a_job_is_one_tree_from_its_caller_to_the_stages_of_its_ranges(server, collector, clip):
    request_id = submit(server, clip("a.mp4", 6), traceparent=CALLER)
    collector.wait(
        lambda spans: [each for each in spans if each.name == "store" and request_id in facts(each).values()]
    )
    attempt, named = of_job(collector, request_id)
    [request], [queue], [store] = named["POST /api/v2/videos/upscales"], named["queue"], named["store"]
    assert (
        request.trace_id.hex() == TRACE
        and request.parent_span_id.hex() == SPAN
        and request.kind == request.SPAN_KIND_SERVER
    )
    assert facts(request)["http.response.status_code"] == 200
    assert queue.parent_span_id == attempt.parent_span_id == request.span_id
    assert request.start_time_unix_nano < queue.start_time_unix_nano
    assert queue.end_time_unix_nano <= attempt.start_time_unix_nano
    assert attempt.end_time_unix_nano <= store.start_time_unix_nano and store.parent_span_id == request.span_id
    assert facts(store)["upres.bytes"] == stored_bytes(server, request_id)
    assert facts(attempt)["upres.outcome"] == "joined" and facts(attempt)["upres.attempt"] == 1
    assert facts(attempt)["upres.model"] == MODEL and facts(attempt)["upres.key"] == "default"
    ranges = named["range"]
    assert {span.parent_span_id for span in ranges} == {attempt.span_id} and len(ranges) > 1
    assert {facts(span)["upres.device"] for span in ranges} == {"0", "1"}
    frames = 0
    for span in ranges:
        assert inside(span, attempt) and facts(span)["upres.outcome"] == "made"
        stages = stages_of(span, named)
        assert stages.keys() == STAGES and all(inside(stage, span) for stage in stages.values())
        assert all(facts(stage)["upres.busy_seconds"] > 0 for stage in stages.values())
        frames += facts(stages["encode"])["upres.frames"]
    assert frames == 60
    assert sum(map(len, named.values())) == 4 + 4 * len(ranges)  # never one per frame


def stored_bytes(server, request_id):
    with Rpc(server.target) as rpc:
        return rpc.get(request_id).totals.bytes


def test_every_line_about_a_traced_job_names_its_trace(server, collector, clip):
    request_id = submit(server, clip("a.mp4", 6), traceparent=CALLER)
    attempt, _ = of_job(collector, request_id)
    lines = [line for line in server.lines if line["request_id"].partition("/")[0] == request_id]
    assert {line.get("trace_id") for line in lines} == {TRACE}
    [own] = [line for line in lines if "frames are in the log" in line["message"]]  # from the attempt's own process
    assert own["span_id"] == attempt.span_id.hex()


def test_a_stream_over_grpc_continues_its_callers_trace_down_to_stages(server, collector, clip):
    config = pb.UpscaleConfig(model=MODEL, preset="ultrafast")
    source = pb.SourceChunk(data=clip("a.mp4", 1).read_bytes())
    parts = [pb.UpscaleRequest(config=config), pb.UpscaleRequest(chunk=source), pb.UpscaleRequest(end=True)]
    with Rpc(server.target) as rpc:
        rpc.metadata += (("traceparent", CALLER),)
        *_, last = rpc.call(rpc.upscale.Upscale, iter(parts))
    attempt, named = of_job(collector, last.job.request_id)
    call = next(span for span in named["upres.v2.UpscaleService/Upscale"] if span.span_id == attempt.parent_span_id)
    assert call.trace_id.hex() == TRACE and call.parent_span_id.hex() == SPAN
    stages = stages_of(attempt, named)
    assert stages.keys() == STAGES and all(inside(stage, attempt) for stage in stages.values())
    assert facts(stages["encode"])["upres.frames"] == 10


def test_a_live_job_over_the_websocket_continues_its_callers_trace(server, collector, clip):
    url = f"ws://127.0.0.1:{server.settings['http_port']}/api/v2/live"
    with connect(url, max_size=None, open_timeout=30, additional_headers={"traceparent": CALLER}) as socket:
        socket.send(json.dumps({"key": KEY, "start": {"model": MODEL, "preset": "ultrafast"}}))
        request_id = json.loads(socket.recv(timeout=60))["accepted"]["request_id"]
        socket.send(clip("a.ts", 1).read_bytes())
        socket.send(json.dumps({"end": True}))
        with suppress(ConnectionClosed):
            while socket.recv(timeout=60):
                pass
    attempt, named = of_job(collector, request_id)
    request = next(span for span in named["WebSocket /api/v2/live"] if span.span_id == attempt.parent_span_id)
    assert request.trace_id.hex() == TRACE and request.parent_span_id.hex() == SPAN
    assert stages_of(attempt, named).keys() == STAGES


@pytest.mark.parametrize(
    "sent", [[], [("traceparent", "x")], [("traceparent", CALLER)] * 2, [("traceparent", CALLER.upper())]]
)
def test_who_sends_no_traceparent_begins_a_trace(server, collector, sent):
    seen = len(collector.spans)
    assert httpx.get(f"{server.base}/api/v2/jobs", headers=[*BEARER.items(), *sent]).status_code == 200
    spans = collector.wait(lambda spans: any(span.name == "GET /api/v2/jobs" for span in spans[seen:]))
    [span] = [span for span in spans[seen:] if span.name == "GET /api/v2/jobs"]
    assert span.parent_span_id == b"" and span.trace_id.hex() != TRACE


@pytest.mark.parametrize("name", ["traceparent", "tracestate", "baggage"])
def test_a_megabyte_of_header_neither_ends_the_server_nor_becomes_a_span(server, collector, name):
    seen = len(collector.spans)
    with suppress(httpx.TransportError):  # the connection is closed before all of it is sent
        assert httpx.get(f"{server.base}/api/v2/jobs", headers={**BEARER, name: CALLER * 20_000}).is_client_error
    assert httpx.get(f"{server.base}/api/v2/models", headers=BEARER).status_code == 200
    spans = collector.wait(lambda spans: any(span.name == "GET /api/v2/models" for span in spans[seen:]))
    assert not any(span.name == "GET /api/v2/jobs" for span in spans[seen:])


def test_a_megabyte_of_metadata_ends_the_call_alone(server, collector):
    seen = len(collector.spans)
    with Rpc(server.target) as rpc:
        own, rpc.metadata = rpc.metadata, (*rpc.metadata, ("traceparent", CALLER * 20_000))
        with pytest.raises(grpc.RpcError):
            rpc.call(rpc.jobs.ListJobs, pb.ListJobsRequest())
        rpc.metadata = own
        rpc.call(rpc.models.ListModels, pb.ListModelsRequest())
    spans = collector.wait(lambda spans: any(span.name == "upres.v2.ModelService/ListModels" for span in spans[seen:]))
    assert [span.name for span in spans[seen:]] == ["upres.v2.ModelService/ListModels"]


def test_nobody_without_a_key_fills_traces(server, collector):
    seen = len(collector.spans)
    for path in ("/api/v2/jobs", "/healthz", "/metrics", "/nowhere"):
        httpx.get(f"{server.base}{path}", headers={"traceparent": CALLER})
    httpx.get(f"{server.base}/api/v2/models", headers=BEARER)
    spans = collector.wait(lambda spans: any(span.name == "GET /api/v2/models" for span in spans[seen:]))
    assert [span.name for span in spans[seen:]] == ["GET /api/v2/models"]


def test_the_operators_words_are_kept_and_the_collectors_secret_stays_in_the_server(server, collector):
    assert {path for path, _ in collector.headers} == {"/v1/traces"}
    assert {headers["x-token"] for _, headers in collector.headers} == {SECRET}
    assert collector.resources[0]["service.name"] == "upres"
    assert collector.resources[0]["deployment.environment.name"] == "test"
    children = processes.below("upres-worker", "python", "python3", pid=server.process.pid)
    assert children
    for process in children:
        assert SECRET not in str(process.environ())


def test_a_job_keeps_its_trace_when_the_server_dies(traced, collector, tmp_path, clip):
    with ServerProcess(tmp_path / "state") as server, Rpc(server.ready().target) as rpc:
        rpc.metadata += (("traceparent", CALLER),)
        server.dies_at("changed to processing:1")
        with pytest.raises(Exception, match="UNAVAILABLE"):
            job = rpc.create(clip("a.mp4", 1).read_bytes(), pb.UpscaleConfig(model=MODEL, preset="ultrafast"))
            [*rpc.watch(job.request_id)]
        server.wait()
    with server.start(), Rpc(server.ready().target) as rpc:
        [job] = rpc.call(rpc.jobs.ListJobs, pb.ListJobsRequest()).jobs
        assert [event.job.status for event in rpc.watch(job.request_id)][-1] == pb.Job.STATUS_DONE
        spans = collector.wait(
            lambda spans: any(facts(span).get("upres.request_id") == job.request_id for span in spans)
        )
        assert server.stop() == 0
    assert {s.trace_id.hex() for s in spans if facts(s).get("upres.request_id") == job.request_id} == {TRACE}


def test_a_server_whose_collector_is_gone_serves_and_stops(traced, monkeypatch, tmp_path, clip):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    with ServerProcess(tmp_path / "state", grace_seconds=1) as server:
        submit(server.ready(), clip("a.mp4", 1))
        assert server.stop() == 0


@contextmanager
def without_the_sdk(folder, **variables):
    """Run `upres serve` without OpenTelemetry's SDK; a process that tries to import it creates a file.

    The API of OpenTelemetry stays available, because FastAPI imports it.
    """
    package, tried = folder / "opentelemetry" / "sdk", folder / "tried"
    package.mkdir(parents=True)
    lines = (
        f"open({str(tried)!r}, 'w').close()",
        "raise ModuleNotFoundError('it is not here', name='opentelemetry.sdk')",
    )
    (package / "__init__.py").write_text("\n".join(lines))
    own = {
        "state": folder / "state",
        "api_key": KEY,
        "models": "fake:load",
        "http_port": free_port(),
        "grpc_port": free_port(),
    }
    named = {f"UPRES_{name.upper()}": str(value) for name, value in own.items()}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    environment = {**kept, **named, **variables, "PYTHONPATH": f"{folder}:{SUPPORT}"}
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen([UPRES, "serve"], env=environment, stdout=subprocess.PIPE, stderr=log, text=True)
    with server:
        try:
            assert any(line.startswith("gRPC on") for line in server.stdout)
            yield f"127.0.0.1:{own['grpc_port']}", tried
        finally:
            server.terminate()


def run_job(target, clip):
    with Rpc(target) as rpc:
        job = rpc.create(clip.read_bytes(), pb.UpscaleConfig(model=MODEL, preset="ultrafast"))
        assert [event.job.status for event in rpc.watch(job.request_id)][-1] == pb.Job.STATUS_DONE


def test_where_it_is_off_no_process_imports_the_sdk(tmp_path, clip):
    with without_the_sdk(tmp_path) as (target, tried):
        run_job(target, clip("a.mp4", 1))
    assert not tried.exists()


def test_a_server_that_lacks_the_extra_says_so_and_serves(tmp_path, clip):
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}
    with without_the_sdk(tmp_path, **variables) as (target, tried):
        run_job(target, clip("a.mp4", 1))
    assert tried.exists() and "pip install 'upres[otel]'" in (tmp_path / "log").read_text()
