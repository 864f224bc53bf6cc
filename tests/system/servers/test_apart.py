"""Two real servers that share a PostgreSQL database and a bucket but no disk: one continues the other's jobs."""

import re
import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import databases
import httpx
import psycopg
import pytest
from faulty_store import access, faulty, s3_server
from serving import KEY, Rpc, ServerProcess, both_ready, fetched, streamed_past_a_kill

from upres.service.client import Client
from upres.v2 import upscale_pb2 as pb

pytestmark = pytest.mark.scale

CONFIG = pb.UpscaleConfig(model="RealESRGAN_Vid_x2", segment_seconds=0.5, preset="ultrafast")
SECONDS = 12


@pytest.fixture(scope="module")
def s3():
    with s3_server() as url:
        yield url


@pytest.fixture(scope="module")
def pair(postgres, s3, tmp_path_factory):
    """Two servers that share only the database and the bucket, for all tests."""
    folder, store = tmp_path_factory.mktemp("pair"), "s3://bucket/jobs"
    settings = {"database": databases.fresh(), "store": store, "models": "fake:gated"}
    servers = first, second = [ServerProcess(folder / name / "state", **settings) for name in ("1", "2")]
    with faulty(s3) as (url, faults), pytest.MonkeyPatch.context() as patch:
        for name, value in {**access(url), "FAKE_GATE": str(folder / "gate")}.items():
            patch.setenv(name, value)
        for server in servers:
            server.log.parent.mkdir()
        try:
            known = {"first": first, "second": second, "database": settings["database"], "gate": folder / "gate"}
            yield SimpleNamespace(**known, faults=faults, store=store)
        finally:
            first.end()
            second.end()


@pytest.fixture
def gate(pair):
    """Return the file until whose creation no job of more than a few frames ends."""
    pair.gate.unlink(missing_ok=True)
    return pair.gate


@pytest.fixture
def two(pair, gate):
    """The two servers, both ready, and clients of each, and of both."""
    both_ready(pair.first, pair.second)
    pair.faults.requests.clear()
    pair.faults.answered.clear()
    target = f"ipv4:{pair.first.target},{pair.second.target}"
    with Rpc(pair.first.target) as one, Rpc(pair.second.target) as other, Client(target, KEY, patience=120) as any_:
        any_.jobs()  # a client that has never reached a server gives up sooner
        yield SimpleNamespace(**vars(pair), one=one, other=other, client=any_)


@pytest.fixture(scope="module")
def expected(clip, tmp_path_factory):
    """Return the result of an undisturbed job, on SQLite and one disk."""
    folder = tmp_path_factory.mktemp("undisturbed")
    with ServerProcess(folder / "state") as server, Rpc(server.target) as rpc:
        request_id = rpc.create(clip("a.mp4", SECONDS).read_bytes(), CONFIG).request_id
        *_, last = rpc.watch(request_id)
        assert last.event == "done"
        return rpc.file(request_id)


def row_of(two, request_id, column):
    with psycopg.connect(two.database) as connection:
        query = f"SELECT {column} FROM jobs WHERE request_id = %s"
        return connection.execute(query, (request_id,)).fetchone()[0]


def stored(two, part):
    """Count the objects written whose keys contain this text."""
    return sum(method in ("PUT", "POST") and part in path for method, path, _ in list(two.faults.requests))


def until(condition):
    end = time.monotonic() + 200
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def holder(two, request_id):
    """Return the server that owns a job, and the other one."""
    with psycopg.connect(two.database) as connection:
        query = "SELECT grpc FROM leases JOIN jobs ON leases.name = jobs.server WHERE request_id = %s"
        (grpc,) = connection.execute(query, (request_id,)).fetchone()
    here = grpc.endswith(f":{two.first.settings['grpc_port']}")
    return (two.first, two.second) if here else (two.second, two.first)


def test_a_job_goes_on_at_another_server_from_what_is_in_the_bucket(two, gate, clip, expected, tmp_path):
    request_id = two.one.create(clip("a.mp4", SECONDS).read_bytes(), CONFIG).request_id
    until(lambda: stored(two, f"{request_id}/log/") > 0)
    killed, other = holder(two, request_id)
    killed.kill()
    gate.touch()
    assert fetched(two.client, request_id, tmp_path / "out.mp4") == expected
    assert any("downloaded from the object store" in line["message"] for line in other.lines)
    killed.start().ready()  # its local files of the job are useless by now
    until(lambda: not (killed.log.parent / "state" / "jobs" / request_id).exists())


def test_a_stream_goes_on_at_another_server_to_the_very_pieces(two, gate, clip, expected, tmp_path):
    def kill(request_id):
        holder(two, request_id)[0].kill()
        gate.touch()

    request_id = streamed_past_a_kill(two.client, clip("a.mp4", SECONDS), CONFIG, kill)
    assert fetched(two.client, request_id, tmp_path / "out.mp4") == expected


def test_an_upload_goes_on_at_another_server_at_the_byte_that_is_in_the_bucket(two, gate, clip, expected, tmp_path):
    gate.touch()
    source, request_id = clip("a.mp4", SECONDS).read_bytes(), "33333333-3333-4333-8333-333333333333"
    half = len(source) // 2
    begin = pb.CreateJobRequest(begin=pb.CreateJobRequest.Begin(request_id=request_id, config=CONFIG))
    first = pb.CreateJobRequest(chunk=pb.SourceChunk(offset=0, data=source[:half]))
    two.one.call(two.one.jobs.CreateJob, iter([begin, first]))
    until(lambda: two.one.get(request_id).source_offset == half)
    two.first.kill()
    assert two.client.get(request_id).source_offset == half

    def rest():
        yield begin
        yield pb.CreateJobRequest(chunk=pb.SourceChunk(offset=half, data=source[half:]))
        yield pb.CreateJobRequest(end=True)

    assert two.other.call(two.other.jobs.CreateJob, rest()).job.accepted
    assert fetched(two.client, request_id, tmp_path / "out.mp4") == expected


def test_what_has_ended_is_read_where_its_server_has_gone(two, gate, clip, expected):
    gate.touch()
    request_id = two.one.create(clip("a.mp4", SECONDS).read_bytes(), CONFIG).request_id
    assert [*two.one.watch(request_id)][-1].event == "done"
    killed, other = holder(two, request_id)
    with Rpc(killed.target) as rpc:
        log = pb.ReadResultRequest(request_id=request_id, log=pb.ReadResultRequest.Log())
        here = [part for part in rpc.call(rpc.jobs.ReadResult, log) if part.HasField("fragment")]
    killed.kill()
    with Rpc(other.target) as rpc:
        assert [part for part in rpc.call(rpc.jobs.ReadResult, log) if part.HasField("fragment")] == here != []
        assert rpc.file(request_id) == expected
    ranged = [headers["range"] for _, path, headers in two.faults.requests if "/log/" in path and "range" in headers]
    assert ranged


def test_a_server_that_stops_in_peace_hands_over_all_that_is_published(two, gate, clip, expected, tmp_path):
    request_id = two.one.create(clip("a.mp4", SECONDS).read_bytes(), CONFIG).request_id
    until(lambda: row_of(two, request_id, "progress") > 0)
    stops, _ = holder(two, request_id)
    assert stops.stop() == 0
    gate.touch()
    assert fetched(two.client, request_id, tmp_path / "out.mp4") == expected
    assert two.client.get(request_id).attempts == 1


def test_a_server_that_hung_and_comes_back_changes_nothing_in_the_bucket(two, gate, clip, expected):
    request_id = two.one.create(clip("a.mp4", SECONDS).read_bytes(), CONFIG).request_id
    until(lambda: stored(two, f"{request_id}/log/") > 0)
    hangs, other = holder(two, request_id)
    hangs.process.send_signal(signal.SIGSTOP)
    with Client(other.target, KEY, patience=120) as client:
        client.get(request_id)  # retries until there is an answer
    gate.touch()
    hangs.process.send_signal(signal.SIGCONT)
    assert hangs.wait() == 1
    with Rpc(other.target) as rpc:
        *_, last = rpc.watch(request_id)
        assert last.event == "done" and rpc.file(request_id) == expected
    assert row_of(two, request_id, "kept")["log"][-1][1] is None and len(row_of(two, request_id, "kept")["log"]) == 2
    shutil.rmtree(other.log.parent / "state" / "jobs" / request_id)  # so that it is read from the bucket
    with Rpc(other.target) as rpc:
        log = pb.ReadResultRequest(request_id=request_id, log=pb.ReadResultRequest.Log())
        fragments = [part.fragment for part in rpc.call(rpc.jobs.ReadResult, log) if part.HasField("fragment")]
    assert sum(part.frames for part in fragments if part.track == "video") == 10 * SECONDS


def test_a_bucket_that_is_away_for_a_while_and_cuts_what_is_read_costs_no_job(two, gate, clip, expected, tmp_path):
    """The bucket is unavailable while a job runs, its server is killed and another one takes it over."""
    request_id = two.one.create(clip("a.mp4", SECONDS).read_bytes(), CONFIG).request_id
    until(lambda: stored(two, f"{request_id}/log/") > 0)
    two.faults.away = True
    before = len(two.faults.answered)
    killed, _ = holder(two, request_id)
    killed.kill()
    until(lambda: two.faults.answered[before:].count(503) > 3)
    two.faults.cuts, two.faults.away = 2, False
    gate.touch()
    assert fetched(two.client, request_id, tmp_path / "out.mp4") == expected
    assert two.faults.cuts == 0


@pytest.mark.soak
def test_a_bucket_that_answers_503_for_sixty_seconds_costs_neither_a_job_nor_an_attempt(
    two, gate, clip, expected, tmp_path
):
    """All periods are those of the product: one job runs and ends, another one is submitted, while the bucket is unavailable."""
    path = clip("a.mp4", SECONDS)
    running = two.one.create(path.read_bytes(), CONFIG).request_id
    until(lambda: stored(two, f"{running}/log/") > 0)
    two.faults.answered.clear()
    two.faults.away = True
    with ThreadPoolExecutor(1) as clients:
        submitting = clients.submit(two.client.submit, path, CONFIG)
        gate.touch()
        time.sleep(60)
        assert not submitting.done() and two.one.get(running).status == pb.Job.STATUS_PROCESSING
        assert two.faults.answered[-1] == 503 and two.faults.answered.count(503) > 3
        two.faults.away = False
        for request_id in (running, submitting.result().request_id):
            assert fetched(two.client, request_id, tmp_path / "out.mp4") == expected
            assert two.one.get(request_id).attempts == 1


def test_a_deleted_job_leaves_nothing_in_the_bucket(two, gate, clip, s3):
    gate.touch()

    def keys():
        listed = re.findall("<Key>(.*?)</Key>", httpx.get(f"{s3}/bucket?list-type=2").text)
        return sum(request_id in key for key in listed for request_id in request_ids)

    kept = two.one.create(clip("a.mp4", 1).read_bytes(), CONFIG).request_id
    request_ids = [kept]
    *_, last = two.one.watch(kept)
    assert last.event == "done"
    until(
        lambda: "/source/" not in httpx.get(f"{s3}/bucket?list-type=2").text.partition(kept)[2].partition("</Key>")[0]
    )
    before = keys()
    for _ in range(2):
        request_ids.append(two.one.create(clip("a.mp4", SECONDS).read_bytes(), CONFIG).request_id)
        two.client.delete(request_ids[-1])
    assert before > 1
    two.client.delete(kept)
    until(lambda: keys() == 0)


def test_servers_of_one_database_agree_on_where_jobs_are_kept(two, tmp_path):
    for settings in ({}, {"store": "s3://bucket/elsewhere"}):
        (tmp_path / "3").mkdir(exist_ok=True)
        server = ServerProcess(tmp_path / "3" / "state", database=two.database, **settings)
        server.start()
        assert server.wait() == 1
        assert "UPRES_STORE" in server.log.read_text() and two.store in server.log.read_text()
    server = ServerProcess(two.first.settings["state"], "4", database=two.database, store=two.store)
    server.start()
    assert server.wait() == 1 and "UPRES_STATE to a separate folder" in server.log.read_text()
