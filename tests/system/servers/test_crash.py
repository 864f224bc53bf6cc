"""kill -9 of server, worker and decoder: no accepted job is lost, and results are byte-identical."""

import contextlib
import hashlib
import inspect
import json
import os
import random
import signal
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import httpx
import processes
import pytest
from paths import SOAK
from serving import KEY, Rpc, ServerProcess

from upres.service.domain import states
from upres.v2 import upscale_pb2 as pb

CONFIG = pb.UpscaleConfig(model="RealESRGAN_Vid_x2", segment_seconds=0.5, preset="ultrafast")
STEPS = ["add", "added", "source whole", "change to pending", "changed to pending", "video stored", "result stored"]
FIGURES = SOAK / "crash.jsonl"


@pytest.fixture(scope="module")
def deadly(tmp_path_factory):
    """Return a path; while that file exists, attempts of the shared server kill their worker."""
    with pytest.MonkeyPatch.context() as patch:
        file = tmp_path_factory.mktemp("deadly") / "now"
        patch.setenv("FAKE_DIES", str(file))
        yield file


@pytest.fixture(scope="module")
def shared(deadly, tmp_path_factory):
    """A server that dies and restarts in test after test, because a start is most of the time that each test takes."""
    server = ServerProcess(tmp_path_factory.mktemp("shared") / "state")
    yield server
    if server.runs:
        server.kill()


@pytest.fixture
def server(shared, deadly, expected):
    """Return the shared server, running with its default settings."""
    if shared.runs and shared.changed:
        shared.kill()
    yield shared if shared.runs else shared.start()
    shared.dies_at("")
    deadly.unlink(missing_ok=True)


@pytest.fixture(scope="module")
def expected(shared, clip):
    """Return the results without any crash, by clip, as the server makes them before the first one."""
    with Rpc(shared.start().target) as rpc:
        return {path: finish(rpc, path, str(uuid.uuid4())) for path in (clip("a.mp4", 1), clip("a.mp4", 12))}


def finish(rpc, path, request_id):
    """Submit a job, retrying with the same id, and return the hash of its result."""
    submit(rpc, path, request_id)
    events = list(rpc.watch(request_id))
    assert events[-1].event == "done", events[-1]
    assert [event.event for event in events].count("done") == 1
    data = rpc.file(request_id)
    assert len(data) == events[-1].job.totals.bytes
    return hashlib.sha256(data).hexdigest()


def submit(rpc, path, request_id):
    rpc.create(path.read_bytes(), CONFIG, request_id)


def submit_garbage(rpc, path, request_id):
    rpc.create(b"garbage" * 1000, CONFIG, request_id)


def cancel(rpc, path, request_id):
    submit(rpc, path, request_id)
    rpc.call(rpc.jobs.CancelJob, pb.CancelJobRequest(request_id=request_id))


def cancel_begun(rpc, path, request_id):
    submit(rpc, path, request_id)
    assert any(event.event == "processing" for event in rpc.watch(request_id))
    cancel(rpc, path, request_id)


@dataclass(frozen=True)
class Story:
    """The trigger of a state change. to: the new status, and the ordinal of the change to it.

    reason: why the job ends in error, whatever happens; "" where it ends well. first, then: settings before and after the
    crash. again: it is the start after a crash that crashes, before anybody can call. dies: attempts kill their worker.
    """

    change: Callable[..., states.State]
    to: str
    act: Callable[..., None] = submit
    reason: str = ""
    first: dict = field(default_factory=dict)
    then: dict = field(default_factory=dict)
    again: bool = False
    dies: bool = False

    def __str__(self):
        return f"{self.change.__name__}-{self.to}-{self.act.__name__}"


IDLE, HASTY = {"workers": 0}, {"job_seconds": 0.001}
STORIES = [
    Story(states.started, "processing:1"),
    Story(states.progressed, "processing:2"),
    Story(states.died, "processing:2", dies=True),
    Story(states.started, "processing:3", dies=True),
    Story(states.died, "error:1", dies=True, reason="PROCESSING_FAILED"),
    Story(states.crashed, "processing:1", again=True),
    Story(states.finished, "done:1"),
    Story(states.failed, "error:1", submit_garbage, reason="SOURCE_UNPROCESSABLE"),
    Story(states.failed, "error:1", reason="TIMEOUT", first=HASTY, then=HASTY),
    Story(states.cancelled, "error:1", cancel, reason="CANCELLED", first=IDLE, then=IDLE),
    Story(states.cancelled, "error:1", cancel_begun, reason="CANCELLED", then=IDLE),
]


def die(server, fault, act, **settings):
    """Make a server die at a step, optionally with other settings, and trigger that step."""
    if settings:
        server.kill()
    server.dies_at(fault)
    if not server.runs:
        server.start(**settings)
    with Rpc(server.target) as rpc, contextlib.suppress(grpc.RpcError):
        act(rpc)
    assert server.wait() == -signal.SIGKILL


def listed(server):
    """List the jobs of a server."""
    with Rpc(server.target) as rpc:
        return {job.request_id for job in rpc.call(rpc.jobs.ListJobs, pb.ListJobsRequest()).jobs}


@pytest.mark.parametrize("step", STEPS)
def test_a_server_that_dies_at_a_step_ends_every_job_after_a_restart(server, clip, expected, step):
    path, request_id, before = clip("a.mp4", 1), str(uuid.uuid4()), listed(server)
    die(server, f"{step}:1", lambda rpc: submit(rpc, path, request_id))
    with Rpc(server.start().target) as rpc:
        assert finish(rpc, path, request_id) == expected[path]
    assert listed(server) - before == {request_id}


AFTER = pytest.param("changed", id="after it", marks=pytest.mark.soak)


@pytest.mark.parametrize("when", [pytest.param("change", id="before it is committed"), AFTER])
@pytest.mark.parametrize("story", STORIES, ids=str)
def test_a_server_that_dies_in_a_change_of_state_goes_on_from_what_was_committed(
    server, clip, expected, deadly, story, when
):
    path, request_id = clip("a.mp4", 1), str(uuid.uuid4())
    if story.dies:
        deadly.touch()
    if story.again:
        die(server, "changed to processing:1", lambda rpc: story.act(rpc, path, request_id))
    act = (lambda rpc: None) if story.again else lambda rpc: story.act(rpc, path, request_id)
    die(server, f"{when} to {story.to}", act, **story.first)
    if not story.reason:
        deadly.unlink(missing_ok=True)
    with Rpc(server.start(**story.then).target) as rpc:
        if not story.reason:
            assert finish(rpc, path, request_id) == expected[path]
            return
        if when == "change":
            with contextlib.suppress(grpc.RpcError):
                story.act(rpc, path, request_id)
        *_, last = rpc.watch(request_id)
        assert (last.event, last.job.error.reason) == ("error", story.reason)


def test_every_change_of_state_is_among_them():
    changes = [function for _, function in inspect.getmembers(states, inspect.isfunction)]
    assert {story.change for story in STORIES} == {
        change for change in changes if inspect.signature(change).return_annotation is states.State
    } - {states.requeued}  # of a server that stops cleanly: in test_fairness


def files_of(server, request_id):
    """List the names that a job left in a server's state folder."""
    return {path.name for path in Path(server.settings["state"]).rglob("*") if request_id in path.name}


def wait_until(condition):
    """Wait for background work of a server, up to twenty seconds."""
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize("step", ["delete", "deleted"])
def test_a_server_that_dies_while_it_forgets_a_job_has_it_whole_or_not_at_all(server, clip, expected, step):
    path, request_id = clip("a.mp4", 1), str(uuid.uuid4())

    def act(rpc):
        finish(rpc, path, request_id)
        rpc.call(rpc.jobs.DeleteJob, pb.DeleteJobRequest(request_id=request_id))

    die(server, f"{step}:1", act)
    with Rpc(server.start().target) as rpc:
        assert (request_id in listed(server)) is (step == "delete")
        if step == "deleted":
            wait_until(lambda: not files_of(server, request_id))
        else:
            assert files_of(server, request_id) >= {f"{request_id}.mp4", f"{request_id}.jpg"}
            assert hashlib.sha256(rpc.file(request_id)).hexdigest() == expected[path]


def test_a_server_that_dies_between_an_end_and_its_tidying_up_does_so_after_its_restart(server, clip):
    """Partial files of the result store are not results."""
    path, request_id, state = clip("a.mp4", 1), str(uuid.uuid4()), Path(server.settings["state"])
    die(server, "changed to done:1", lambda rpc: submit(rpc, path, request_id) or list(rpc.watch(request_id)))
    assert {"source", "result.mp4"} < {file.name for file in (state / "jobs" / request_id).iterdir()}
    (results := next((state / "results").iterdir())).joinpath(f"{request_id}.mp4#1").touch()
    with Rpc(server.start().target) as rpc:
        assert rpc.get(request_id).status == pb.Job.STATUS_DONE
        folder = state / "jobs" / request_id
        wait_until(lambda: not {"source", "result.mp4"} & {file.name for file in folder.iterdir()})
        assert {file.name for file in results.glob(f"{request_id}*")} == {f"{request_id}.mp4", f"{request_id}.jpg"}


def test_an_idempotency_key_holds_no_request_that_was_lost_before_it_was_answered(server, clip):
    """A client retries after the server has abandoned the job of the first try, whose source was lost in the crash."""

    def send():
        headers = {"Authorization": f"Bearer {KEY}", "Idempotency-Key": "once"}
        files, data = {"video": clip("a.mp4", 1).read_bytes()}, {"model": "RealESRGAN_Vid_x2", "preset": "ultrafast"}
        return httpx.post(f"{server.base}/api/v2/videos/upscales", headers=headers, files=files, data=data, timeout=60)

    before = listed(server)
    server.dies_at("added:1")
    with pytest.raises(httpx.TransportError):
        send()
    server.wait()
    with server.start(source_idle_seconds=0.1, workers=0), Rpc(server.target) as rpc:
        (lost,) = listed(server) - before
        assert list(rpc.watch(lost))[-1].job.error.reason == "SOURCE_INCOMPLETE"
    with Rpc(server.start().target) as rpc:
        first, again = (send().json()["data"]["request_id"] for _ in range(2))
        assert first == again != lost
        assert list(rpc.watch(first))[-1].event == "done"


def victims(server, kind):
    if kind == "server":
        return [server.process.pid]
    return [process.pid for process in processes.below(f"upres-{kind}", pid=server.process.pid)]


def killed(server, path, kind, after):
    """Disturb a job with a kill at an event of its log; return its id, and how many processes were killed."""
    request_id = str(uuid.uuid4())
    with Rpc(server.target) as rpc:
        submit(rpc, path, request_id)
        log = pb.ReadResultRequest(request_id=request_id, log=pb.ReadResultRequest.Log())
        call = rpc.jobs.ReadResult(log, metadata=rpc.metadata, timeout=60)
        for _ in range(after):
            next(call, None)
        pids = victims(server, kind)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        call.cancel()
        if kind == "server":
            server.wait()
            server.start()
    return request_id, len(pids)


def kill_at_random(server, path, kills, seed, expected):
    """Run jobs in sequence, each disturbed by a kill at a random event, until there were enough kills; return the events."""
    chance, number = random.Random(seed), 0
    while kills:
        number += 1
        kind, after, start = ("server", "worker", "attempt")[number % 3], chance.randrange(1, 12), time.perf_counter()
        request_id, died = killed(server, path, kind, after)
        kills -= died > 0
        with Rpc(server.target) as rpc:
            equal, attempts = finish(rpc, path, request_id) == expected, rpc.get(request_id).attempts
        facts = {"seed": seed, "job": number, "kind": kind, "after_events": after, "killed": died, "attempts": attempts}
        yield {**facts, "result_equal": equal, "seconds": round(time.perf_counter() - start, 2)}


def test_three_random_kills_change_no_result(server, clip, expected):
    path, seed = clip("a.mp4", 12), random.randrange(1 << 30)
    lines = list(kill_at_random(server, path, 3, seed, expected[path]))
    assert sum(line["killed"] > 0 for line in lines) == 3
    assert all(line["result_equal"] for line in lines), lines


@pytest.mark.soak
def test_a_hundred_random_kills_change_no_result(server, clip, expected):
    path, seed, lines = clip("a.mp4", 12), random.randrange(1 << 30), []
    with FIGURES.open("w", buffering=1) as file:
        for line in kill_at_random(server, path, 100, seed, expected[path]):
            lines.append(line)
            file.write(json.dumps(line) + "\n")
        kills = Counter(line["kind"] for line in lines if line["killed"])
        equal, seconds = sum(line["result_equal"] for line in lines), round(sum(line["seconds"] for line in lines))
        total = {
            "at": time.strftime("%Y-%m-%d"),
            "seed": seed,
            "jobs": len(lines),
            "kills": kills,
            "results_equal": equal,
        }
        file.write(json.dumps({**total, "seconds": seconds}) + "\n")
    assert equal == len(lines)


def test_sigterm_lets_the_running_job_end_and_exits_in_order(server, clip):
    with Rpc(server.target) as rpc:
        request_id = str(uuid.uuid4())
        submit(rpc, clip("a.mp4", 1), request_id)
        assert any(event.event == "processing" for event in rpc.watch(request_id))
        assert server.stop() == 0
    with Rpc(server.start().target) as rpc:
        assert rpc.get(request_id).status == pb.Job.STATUS_DONE


def test_a_second_signal_ends_a_server_that_still_waits_for_a_job_and_the_job_goes_on(server, clip):
    data, gate = clip("a.ts", 6).read_bytes(), threading.Event()

    def begun():
        yield pb.UpscaleRequest(config=CONFIG)
        yield pb.UpscaleRequest(chunk=pb.SourceChunk(data=data[: len(data) // 2]))
        gate.wait(60)

    def rest(request_id):
        yield pb.UpscaleRequest(attach=pb.UpscaleRequest.Attach(request_id=request_id))
        yield pb.UpscaleRequest(chunk=pb.SourceChunk(data=data))
        yield pb.UpscaleRequest(end=True)

    server.kill()
    with server.start(grace_seconds=600), Rpc(server.target) as rpc:
        call = rpc.call(rpc.upscale.Upscale, begun())
        request_id = next(call).accepted.request_id
        next(answer for answer in call if answer.fragment.track == "video" and answer.fragment.last_in_segment)
        server.process.send_signal(signal.SIGTERM)
        assert any(line == b"stopping\n" for line in server.stdout)
        server.process.send_signal(signal.SIGTERM)
        assert server.wait() == 1
        gate.set()
    with Rpc(server.start().target) as rpc:
        *_, last = rpc.call(rpc.upscale.Upscale, rest(request_id))
        assert (last.job.status, last.job.totals.frames_out) == (pb.Job.STATUS_DONE, 60)
        assert last.job.totals.frames_resumed > 0
