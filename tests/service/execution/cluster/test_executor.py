"""Jobs on a Ray cluster with all nodes on this machine: the same bytes as from one worker, whatever dies, joins or leaves."""

import asyncio
import json
import os
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import processes
import psutil
import pytest
import ray_nodes
import yaml
from ordered import Watched, ordered
from paths import ROOT
from running_jobs import ended, result, serving, submit, until

from upres.service.domain.states import Status
from upres.service.execution.base import ExecutorOptions, make_executor
from upres.service.execution.cluster.shared_folder import Marked
from upres.service.execution.local import LocalExecutor
from upres.service.storage.job_folder import JobFolder
from upres.service.telemetry.tally import Telemetry

pytest.importorskip("ray")

from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter  # used by Ray

from upres.service.telemetry.otel import OtelTracing

pytestmark = pytest.mark.scale

LONGEST_SECONDS = 200
UPRES = str(Path(sys.executable).with_name("upres"))


@pytest.fixture(scope="module")
def cluster():
    """Two nodes; this process is on the first."""
    with ray_nodes.cluster(4, 4) as nodes:
        yield nodes


def on_ray(folder, **options):
    return make_executor("ray", ExecutorOptions(folder=folder, memory_bytes=4 << 30, **options))


@asynccontextmanager
async def watched(executor, workers):
    """An executor whose workers are ready."""
    watched = Watched(executor)
    try:
        async with asyncio.timeout(LONGEST_SECONDS):
            await watched.start(workers)
            yield watched
    finally:
        await executor.stop()


async def on_one_worker(folder, source):
    """The result of one worker on this machine."""
    async with watched(LocalExecutor(ExecutorOptions(workers=1, slots=1)), 1) as here:
        return await here.result(here.executor.run, ordered(folder / "alone", source))


async def process_of(worker):
    """The process of a device's actor."""
    actor = await asyncio.to_thread(worker._actor)
    return psutil.Process(await actor.__ray_call__.remote(lambda self: os.getpid()))


async def until_ended(running):
    async with asyncio.timeout(60):
        while any(processes.runs(each) for each in running):
            await asyncio.sleep(0.05)


def attempts():
    """The descendants of this process that run attempts."""
    return processes.below("upres-attempt")


def test_the_same_bytes_in_one_range_and_in_many_on_two_nodes_one_of_which_dies(tmp_path, clip, cluster):
    async def scenario():
        source = clip("a.mp4", 6)
        expected = await on_one_worker(tmp_path, source)
        async with watched(on_ray(tmp_path), 2) as ray:
            assert await ray.result(ray.run_alone, ordered(tmp_path / "one", source)) == expected
            actor = await process_of(ray.executor._workers[1])
            below = actor.children(recursive=True)
            ray.change(0, lambda order: order)
            ray.change(1, lambda order: order, lambda worker: actor.kill())
            assert await ray.result(ray.executor.run, ordered(tmp_path / "many", source)) == expected
            assert ray.ranges[0] and ray.ranges[1] and {*ray.ranges[0], *ray.ranges[1]} == set(range(8))
            await until_ended(below)
            await ray.ready(2)

    asyncio.run(scenario())


def test_a_node_that_joins_is_used_and_when_it_dies_its_jobs_go_on_elsewhere(tmp_path, clip, cluster, caplog):
    async def scenario():
        source = clip("a.mp4", 20)
        expected = await on_one_worker(tmp_path, source)
        executor = on_ray(tmp_path / "jobs")
        async with asyncio.timeout(LONGEST_SECONDS), serving(tmp_path, executor=executor) as jobs:
            node = ray_nodes.joined(cluster)
            while len(executor._workers) < 3 or not executor._workers[2].ready:
                await asyncio.sleep(0.05)
            third = executor._workers[2]
            executor._workers.reverse()  # orders go to the first worker with the most room
            job = await submit(jobs, source)
            while not third._ranges:
                await asyncio.sleep(0.01)
            assert job.request_id in third._running
            await asyncio.to_thread(cluster.remove_node, node, allow_graceful=False)
            job = await until(jobs, job.request_id, ended)
            assert job.state.status is Status.DONE, job
            assert (await result(jobs, job.request_id, tmp_path / "out.mp4")).read_bytes() == expected[0]
            while len(executor._workers) > 2:
                await asyncio.sleep(0.05)
        assert "is gone with" in caplog.text
        assert "has left, with 1 device" in caplog.text

    asyncio.run(scenario())


def test_a_trace_goes_through_the_nodes_down_to_their_stages(tmp_path, clip, cluster):
    exporter = InMemorySpanExporter()
    tracing = OtelTracing(exporter)

    async def scenario():
        executor = on_ray(tmp_path / "jobs", models="fake:load")
        async with serving(tmp_path, executor=executor, telemetry=Telemetry(tracing=tracing)) as jobs:
            while len([device for device in executor.devices if device.ready]) < 2:
                await asyncio.sleep(0.05)
            with tracing.request("POST", []):
                job = await submit(jobs, clip("a.mp4", 6))
            assert (await until(jobs, job.request_id, ended)).state.status is Status.DONE
            return {device.name for device in executor.devices}, {
                device.load.memory_limit for device in executor.devices
            }

    devices, memory = asyncio.run(scenario())
    tracing.close()
    spans = exporter.get_finished_spans()
    [request], [attempt] = ([span for span in spans if span.name == name] for name in ("POST", "attempt"))
    assert attempt.parent.span_id == request.context.span_id and memory == {max(memory)} != {0}
    ranges = {span.context.span_id: span for span in spans if span.name == "range"}
    assert {span.parent.span_id for span in ranges.values()} == {attempt.context.span_id}
    assert {span.attributes["upres.device"] for span in ranges.values()} == devices
    stages = [(span.parent.span_id, span.name) for span in spans if span.name in ("read", "infer", "encode")]
    assert sorted(stages) == sorted((each, name) for each in ranges for name in ("read", "infer", "encode"))


def test_what_is_cancelled_ends_on_all_nodes(tmp_path, clip, cluster):
    async def scenario():
        async with watched(on_ray(tmp_path), 2) as ray:
            workers = ray.executor._workers
            order = ordered(tmp_path / "job", clip("a.mp4", 60))
            await ray.executor.run(order)
            while not all(worker._ranges for worker in workers):
                await asyncio.sleep(0.01)
            assert attempts()
            await ray.executor.cancel(order.request_id)
            assert (await ray.verdict())["report"] == "died"
            await until_ended(attempts())
            assert not any(worker._running for worker in workers)

    asyncio.run(scenario())


def test_servers_share_devices_and_each_gets_its_own_result(tmp_path, clip, cluster, monkeypatch):
    async def scenario():
        source, folders = clip("a.mp4", 6), (tmp_path / "a", tmp_path / "b")
        expected = await on_one_worker(tmp_path, source)
        async with watched(on_ray(folders[0]), 2) as one, watched(on_ray(folders[1]), 2) as other:
            orders = [ordered(folder / "job", source) for folder in folders]
            servers = zip((one, other), orders, strict=True)
            results = await asyncio.gather(*(each.result(each.executor.run, order) for each, order in servers))
            assert results == [expected, expected]
            pairs = zip(one.executor._workers, other.executor._workers, strict=True)
            assert all([await process_of(here) == await process_of(there) for here, there in pairs])

    with monkeypatch.context() as patch:
        patch.setattr("ray.shutdown", lambda: None)  # both servers are in this process
        asyncio.run(scenario())
    sys.modules["ray"].shutdown()


def test_a_node_without_the_servers_folder_is_not_used_and_why_is_said(tmp_path, cluster, monkeypatch, caplog):
    class MissingMark(Marked):
        def __init__(self, *place, **options):
            super().__init__(*place, **options)
            self.remove()

    async def scenario():
        executor = on_ray(tmp_path)
        await executor.start(nobody)
        async with asyncio.timeout(LONGEST_SECONDS):
            while "is not the server's: mount one shared folder" not in caplog.text:
                await asyncio.sleep(0.05)
        assert not executor.ready
        await executor.stop()

    async def nobody(request_id, report):
        pass

    monkeypatch.setattr("upres.service.execution.cluster.executor.Marked", MissingMark)
    asyncio.run(scenario())


def test_a_server_whose_lease_another_took_gets_no_device_back(tmp_path, clip, cluster, monkeypatch, caplog):
    async def scenario():
        source = clip("a.mp4", 6)
        expected = await on_one_worker(tmp_path, source)
        old = on_ray(tmp_path, term=1)
        async with watched(old, 2), watched(on_ray(tmp_path, term=2), 2) as new:
            while caplog.text.count("another server has taken over what is in") < 2:
                await asyncio.sleep(0.05)
            assert not old.ready
            assert await new.result(new.executor.run, ordered(tmp_path / "job", source)) == expected

    with monkeypatch.context() as patch:
        patch.setattr("ray.shutdown", lambda: None)  # both servers are in this process
        asyncio.run(scenario())
    sys.modules["ray"].shutdown()


def test_a_server_whose_lease_is_in_doubt_leaves_its_devices_and_takes_them_again(tmp_path, clip, cluster):
    async def scenario():
        source = clip("a.mp4", 6)
        expected = await on_one_worker(tmp_path, source)
        async with watched(on_ray(tmp_path), 2) as ray:
            order = ordered(tmp_path / "job", clip("a.mp4", 60))
            await ray.executor.run(order)
            while not all(worker._ranges for worker in ray.executor._workers):
                await asyncio.sleep(0.01)
            await ray.executor.pause()
            await until_ended(attempts())
            assert (await ray.verdict())["report"] == "died"
            while ray.executor.ready:
                await asyncio.sleep(0.05)
            await ray.executor.resume()
            await ray.ready(2)
            assert await ray.result(ray.executor.run, ordered(tmp_path / "next", source)) == expected

    asyncio.run(scenario())


async def lost_sight_of(executor, order):
    """Let a server start a job on both nodes and then stop polling, like one that was killed."""
    await executor.run(order)
    while not all(worker._ranges for worker in executor._workers):
        await asyncio.sleep(0.01)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("upres.service.execution.cluster.worker.NodeWorker._detach", nothing)
        await executor.stop()
    assert attempts()


async def nothing(*_):
    pass


def test_a_server_that_was_killed_continues_and_one_that_is_gone_leaves_nothing_running(tmp_path, clip, cluster):
    async def scenario():
        source = clip("a.mp4", 6)
        expected = await on_one_worker(tmp_path, source)
        async with watched(on_ray(tmp_path), 2) as ray:
            await lost_sight_of(ray.executor, ordered(tmp_path / "job", source))
        async with watched(on_ray(tmp_path), 2) as ray:
            assert await ray.result(ray.executor.run, ordered(tmp_path / "job", source)) == expected
        async with watched(on_ray(tmp_path, models="fake:slow"), 2) as ray:
            await lost_sight_of(ray.executor, ordered(tmp_path / "slow", clip("a.mp4", 60)))
        await until_ended(attempts())
        assert not JobFolder(tmp_path / "slow").joined.exists()

    asyncio.run(scenario())


def test_doctor_shows_the_nodes_and_which_can_be_used(tmp_path, cluster):
    environment = {**os.environ, "UPRES_EXECUTOR": "ray", "UPRES_STATE": str(tmp_path / "state")}
    done = subprocess.run(
        [UPRES, "doctor", "--json"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=LONGEST_SECONDS,
        check=True,
    )
    states = [each["state"] for each in json.loads(done.stdout) if each["name"].startswith("node ")]
    assert states == ["4 CPUs and 0 GPUs offered, usable"] * 2


def test_doctor_says_where_there_is_no_cluster_and_what_makes_one(tmp_path):
    environment = {
        **os.environ,
        "UPRES_EXECUTOR": "ray",
        "UPRES_STATE": str(tmp_path / "state"),
        "RAY_ADDRESS": "127.0.0.1:1",
    }
    done = subprocess.run([UPRES, "doctor"], env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1 and "ray start --head" in done.stdout


def test_a_server_on_a_cluster_ends_by_a_signal_as_any_other(tmp_path, cluster):
    ports = {"UPRES_HTTP_PORT": "0", "UPRES_GRPC_PORT": "0"}
    environment = {**os.environ, **ports, "UPRES_EXECUTOR": "ray", "UPRES_STATE": str(tmp_path / "state")}
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen([UPRES, "serve"], env=environment, stdout=subprocess.PIPE, stderr=log, text=True)
        with server:
            assert any(line.startswith("page:") for line in server.stdout)
            server.terminate()
            assert server.stdout.read().endswith("stopping\n")
    assert server.returncode == 0 and "SIGTERM" not in (tmp_path / "log").read_text()


def test_the_example_for_ray_up_has_the_form_that_ray_asks_for(monkeypatch):
    from ray.autoscaler._private.util import prepare_config, validate_config

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    config = yaml.safe_load((ROOT / "docs" / "ray-cluster.yaml").read_text())
    prepared = prepare_config(config)
    validate_config(prepared)
    assert prepared["max_workers"] == len(config["provider"]["worker_ips"])
