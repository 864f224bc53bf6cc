"""Two real servers on one PostgreSQL database and one state folder: both work, and one takes over from the other."""

import json
import random
import signal
import time
from contextlib import contextmanager
from types import SimpleNamespace

import databases
import grpc
import httpx
import psycopg
import pytest
from serving import CHUNK, KEY, Rpc, ServerProcess, both_ready, fetched, streamed_past_a_kill
from websockets.sync.client import connect

from upres.service.auth.api_keys import Keys
from upres.service.client import Client
from upres.service.storage.job_store import Store
from upres.v2 import upscale_pb2 as pb

pytestmark = pytest.mark.scale

CONFIG = pb.UpscaleConfig(model="RealESRGAN_Vid_x2", segment_seconds=0.5, preset="ultrafast")
FORM = {"model": "RealESRGAN_Vid_x2", "preset": "ultrafast"}
HEADERS = {"Authorization": f"Bearer {KEY}"}
KILLS = 20
LIVE = {"model": "RealESRGAN_Vid_x2", "segment_seconds": 0.5, "preset": "ultrafast"}


@contextmanager
def pair(folder, **settings):
    """Two servers, to be started."""
    database = databases.fresh()
    first, second = (ServerProcess(folder / "state", name, database=database, **settings) for name in ("1", "2"))
    try:
        yield SimpleNamespace(first=first, second=second, database=database)
    finally:
        first.end()
        second.end()


@contextmanager
def clients(servers):
    """Two servers that are ready, with clients of each, and of both."""
    both_ready(servers.first, servers.second)
    target = f"ipv4:{servers.first.target},{servers.second.target}"
    with (
        Rpc(servers.first.target) as one,
        Rpc(servers.second.target) as other,
        Client(target, KEY, patience=120) as any_,
    ):
        any_.jobs()  # a client that has never reached a server gives up sooner
        yield SimpleNamespace(**vars(servers), one=one, other=other, client=any_)


@pytest.fixture(scope="module")
def servers(postgres, tmp_path_factory):
    """The servers of all tests."""
    with pair(tmp_path_factory.mktemp("pair")) as servers:
        yield servers


@pytest.fixture
def two(servers):
    with clients(servers) as two:
        yield two


@pytest.fixture(scope="module")
def expected(clip, tmp_path_factory):
    """Return the result of an undisturbed job, on SQLite."""
    folder = tmp_path_factory.mktemp("undisturbed")
    with ServerProcess(folder / "state") as server, Rpc(server.target) as rpc:
        return result(rpc, rpc.create(clip("a.mp4", 12).read_bytes(), CONFIG).request_id)


def result(rpc, request_id):
    """Wait for a job, and return the bytes of its file."""
    *_, last = rpc.watch(request_id)
    assert last.event == "done", last
    return rpc.file(request_id)


def wait_for_progress(rpc, request_id):
    """Wait until part of a job is processed."""
    assert any(event.job.progress > 0 for event in rpc.watch(request_id))


def request_id_of(digit):
    return f"{digit}" * 8 + "-4444-4444-8444-" + f"{digit}" * 12


def server_of(two, request_id):
    """Return the server that holds a job's lease."""
    with psycopg.connect(two.database) as connection:
        return connection.execute("SELECT server FROM jobs WHERE request_id = %s", (request_id,)).fetchone()[0]


def by_lead(two, leads):
    """Return the server that leads, or the other one, each followed by the remaining one's client."""
    with psycopg.connect(two.database) as connection:
        (grpc_target,) = connection.execute("SELECT grpc FROM leases WHERE name = 'work'").fetchone()
    first_leads = grpc_target.endswith(f":{two.first.settings['grpc_port']}")
    return (two.first, two.other) if first_leads == leads else (two.second, two.one)


def lease_of(two, server):
    query = "SELECT name FROM leases WHERE name <> 'work' AND grpc LIKE %s ORDER BY until DESC"
    with psycopg.connect(two.database) as connection:
        return connection.execute(query, (f"%:{server.settings['grpc_port']}",)).fetchone()[0]


def job_of(two, server, source):
    """Return a job that one of both servers is processing."""
    with Rpc(server.target) as rpc:
        for _ in range(20):
            request_id = rpc.create(source, CONFIG).request_id
            wait_for_progress(rpc, request_id)
            if server_of(two, request_id) == lease_of(two, server):
                return request_id
    raise AssertionError("the other server takes every job")


def test_both_servers_take_jobs_that_were_sent_to_one_of_them_and_keys_take_turns(
    postgres, clip, expected, tmp_path, monkeypatch
):
    gate = tmp_path / "gate"  # until it is there the first job of each server does not end
    monkeypatch.setenv("FAKE_GATE", str(gate))
    with pair(tmp_path, slots=1, models="fake:gated") as servers, clients(servers) as two:
        store = Store(two.database)
        secret = Keys(store).add("small")
        store.close()
        source = clip("a.mp4", 12).read_bytes()
        with Rpc(two.second.target, secret) as small, Client(two.second.target, secret, patience=120) as client:
            greedy = [two.one.create(source, CONFIG).request_id for _ in range(8)]
            late = small.create(source, CONFIG).request_id
            gate.touch()
            # A job whose attempt yields its slot may move to the other server; a request about it then has to be repeated.
            assert fetched(client, late, tmp_path / "late.mp4") == expected
        for request_id in greedy:
            assert fetched(two.client, request_id, tmp_path / "greedy.mp4") == expected
        with psycopg.connect(two.database) as connection:
            rows = connection.execute("SELECT request_id, server FROM jobs ORDER BY started_at").fetchall()
        assert len({server for _, server in rows}) == 2
        assert [request_id for request_id, _ in rows].index(late) < len(greedy) - 1


def test_a_job_of_the_other_server_is_followed_read_and_cancelled(two, clip, expected):
    source = clip("a.mp4", 12).read_bytes()
    request_id = two.one.create(source, CONFIG).request_id
    log = pb.ReadResultRequest(request_id=request_id, log=pb.ReadResultRequest.Log())
    parts = list(two.other.call(two.other.jobs.ReadResult, log))
    assert parts[-1].job.status == pb.Job.STATUS_DONE
    assert parts[-1].job == two.one.get(request_id) == two.other.get(request_id)
    assert any(part.HasField("fragment") for part in parts) and two.other.file(request_id) == expected
    for cancels, asks in ((two.other, two.one), (two.one, two.other)):
        request_id = asks.create(source, CONFIG).request_id
        wait_for_progress(asks, request_id)
        cancels.call(cancels.jobs.CancelJob, pb.CancelJobRequest(request_id=request_id))
        assert asks.get(request_id).error.reason == "CANCELLED"
        cancels.call(cancels.jobs.DeleteJob, pb.DeleteJobRequest(request_id=request_id))
        with pytest.raises(grpc.RpcError, match="there is no job"):
            asks.get(request_id)


def test_a_request_that_was_passed_on_once_is_not_passed_on_again(two):
    request_id = request_id_of(4)
    begin = pb.CreateJobRequest(begin=pb.CreateJobRequest.Begin(request_id=request_id, config=CONFIG))
    two.one.call(two.one.jobs.CreateJob, iter([begin]))  # its source will be uploaded there
    path = f"{two.second.base}/api/v2/jobs/{request_id}"
    answer = httpx.get(path, headers={**HEADERS, "X-Upres-Peer": "guess"}, timeout=60)
    assert answer.status_code == 503 and answer.headers["retry-after"] == "5" and "moved" in answer.json()["message"]
    assert httpx.get(path, headers=HEADERS, timeout=60).status_code == 200


def test_calls_that_name_no_job_or_are_none_are_answered_where_they_come(two):
    answers = []
    for method, requests in (
        ("UpscaleService/Upscale", []),
        ("JobService/CreateJob", []),
        ("JobService/GetJob", [b"\xff"]),
        ("JobService/GetJob", [pb.GetJobRequest(request_id="none").SerializeToString()]),
        ("JobService/WatchJob", [pb.WatchJobRequest(request_id=request_id_of(7)).SerializeToString()]),
    ):
        call = two.other.channel.stream_stream(f"/upres.v2.{method}")
        with pytest.raises(grpc.RpcError) as caught:
            list(call(iter(requests), metadata=two.other.metadata, timeout=60))
        answers.append(caught.value.code())
    invalid, missing = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND
    assert answers == [invalid, invalid, invalid, invalid, missing]


def test_requests_count_at_both_servers(two):
    def remaining(server):
        answer = httpx.get(f"{server.base}/api/v2/jobs", headers=HEADERS, timeout=60)
        return int(answer.headers["x-ratelimit-daily-remaining"])

    before, requests = remaining(two.second), 20
    for _ in range(requests):
        remaining(two.first)
    polled = 1
    while remaining(two.second) > before - requests - polled:
        polled += 1
        time.sleep(0.2)


def test_an_upload_goes_on_at_the_other_server(two, clip, expected):
    source, request_id = clip("a.mp4", 12).read_bytes(), "33333333-3333-4333-8333-333333333333"
    half = len(source) // 2
    begin = pb.CreateJobRequest(begin=pb.CreateJobRequest.Begin(request_id=request_id, config=CONFIG))
    first = pb.CreateJobRequest(chunk=pb.SourceChunk(offset=0, data=source[:half]))
    two.one.call(two.one.jobs.CreateJob, iter([begin, first]))
    assert two.other.get(request_id).source_offset == half
    assert two.other.create(source, CONFIG, request_id).accepted
    assert result(two.other, request_id) == expected


def test_a_job_of_the_other_server_is_seen_and_cancelled_over_http(two, clip):
    with httpx.Client(base_url=two.first.base, headers=HEADERS, timeout=60) as web:
        video = clip("a.mp4", 12).read_bytes()
        posted = web.post("/api/v2/videos/upscales", files={"video": video}, data=FORM).json()["data"]
        path = f"{two.second.base}/api/v2/jobs/{posted['request_id']}"
        wait_for_progress(two.one, posted["request_id"])  # no server accepts it any more
        assert web.get(path).json()["data"]["result_url"] is None
        assert web.post(f"{path}/cancel").status_code == 200
        assert web.get(path).json()["data"]["status"] == "error"
        listed = web.get(f"{two.second.base}/api/v2/jobs").json()["data"]
        assert posted["request_id"] in [job["request_id"] for job in listed]
        assert web.delete(path).status_code == 200 and web.get(path).status_code == 404
        assert web.get(f"{two.second.base}/metrics").text.count('upres_jobs{status="error"}') == 0
        assert web.get(f"{two.first.base}/metrics").text.count('upres_jobs{status="error"}') <= 1


def test_a_live_job_is_reached_through_the_other_server(two, clip):
    """HLS players, sockets and calls work at either server."""
    data = clip("frag.mp4", 3, "-movflags", "frag_keyframe+empty_moov").read_bytes()
    with connect(f"ws{two.first.base[4:]}/api/v2/live", max_size=None, open_timeout=60) as live:
        live.send(json.dumps({"key": KEY, "start": LIVE}))
        accepted = json.loads(live.recv(timeout=60))["accepted"]
        request_id = accepted["request_id"]
        for at in range(0, len(data), CHUNK):
            live.send(data[at : at + CHUNK])
        playlist = httpx.get(f"{two.second.base}{accepted['hls']}", timeout=60)
        assert playlist.status_code == 200 and "#EXT-X-STREAM-INF" in playlist.text
        assert two.other.get(request_id).source_offset == len(data)
        listed = two.other.call(two.other.jobs.ListJobs, pb.ListJobsRequest()).jobs
        assert [job.source_offset for job in listed if job.request_id == request_id] == [len(data)]
        with connect(f"ws{two.second.base[4:]}/api/v2/live", max_size=None, open_timeout=60) as along:
            along.send(json.dumps({"key": KEY, "attach": request_id}))
            assert json.loads(along.recv(timeout=60))["accepted"]["hls"] == accepted["hls"]
            live.send(json.dumps({"end": True}))
            messages = [json.loads(message) for message in along if isinstance(message, str)]
        assert any("fragment" in message for message in messages) and messages[-1]["progress"]["status"] == "done"
    with connect(f"ws{two.second.base[4:]}/api/v2/live", open_timeout=60) as along:  # it has ended
        along.send(json.dumps({"key": KEY, "attach": request_id}))
        assert "accepted" in json.loads(along.recv(timeout=60))


def test_the_other_server_tells_of_a_job_as_it_happens(two, clip):
    """PostgreSQL notifies the server long before it would poll."""
    with connect(f"ws{two.second.base[4:]}/app/any?protocol=7", open_timeout=60) as socket:
        opened = json.loads(json.loads(socket.recv(timeout=60))["data"])
        channel = "private-client.default"
        form = {"socket_id": opened["socket_id"], "channel_name": channel}
        signed = httpx.post(f"{two.second.base}/broadcasting/auth", headers=HEADERS, data=form, timeout=60).json()
        socket.send(json.dumps({"event": "pusher:subscribe", "data": {"channel": channel, **signed}}))
        request_id = two.one.create(clip("a.mp4", 3).read_bytes(), CONFIG).request_id
        status = ""
        while status != "done":
            message = json.loads(socket.recv(timeout=60))
            if message["event"] == "request.status.updated":
                update = json.loads(message["data"])
                status = update["status"] if update["request_id"] == request_id else status


@pytest.mark.parametrize("leader", [True, False])
def test_a_server_that_is_killed_leaves_its_jobs_to_the_other_one(two, clip, expected, tmp_path, leader):
    source = clip("a.mp4", 12).read_bytes()
    killed, others = by_lead(two, leader)
    kept, lost = others.create(source, CONFIG).request_id, job_of(two, killed, source)
    killed.kill()
    assert fetched(two.client, lost, tmp_path / "lost.mp4") == expected
    assert result(others, kept) == expected and others.get(lost).attempts <= 2
    killed.start().ready()  # works again next to the other one
    with Rpc(killed.target) as again:
        assert result(again, again.create(source, CONFIG).request_id) == expected


def test_a_stream_goes_on_at_the_other_server(two, clip, expected, tmp_path):
    """The fragments equal those of a single server."""
    request_id = streamed_past_a_kill(two.client, clip("a.mp4", 12), CONFIG, lambda _: two.first.kill())
    assert fetched(two.client, request_id, tmp_path / "out.mp4") == expected


@pytest.mark.parametrize("leader", [True, False])
def test_a_server_that_stops_in_peace_hands_its_jobs_over(two, clip, expected, tmp_path, leader):
    stops, _ = by_lead(two, leader)
    request_id = job_of(two, stops, clip("a.mp4", 12).read_bytes())
    assert stops.stop() == 0
    assert fetched(two.client, request_id, tmp_path / "out.mp4") == expected
    assert two.client.get(request_id).attempts == 1


@pytest.mark.parametrize("leader", [True, False])
def test_a_server_that_hung_and_comes_back_changes_nothing_and_ends(two, clip, expected, leader):
    hangs, others = by_lead(two, leader)
    request_id = job_of(two, hangs, clip("a.mp4", 12).read_bytes())
    holder = server_of(two, request_id)
    hangs.process.send_signal(signal.SIGSTOP)
    with Client((two.second if hangs is two.first else two.first).target, KEY, patience=120) as client:
        client.get(request_id)  # retries until there is an answer
    assert server_of(two, request_id) != holder
    hangs.process.send_signal(signal.SIGCONT)
    assert hangs.wait() == 1
    assert any("has taken over" in line["message"] for line in hangs.lines)
    assert result(others, request_id) == expected


@pytest.mark.soak
def test_twenty_random_kills_of_two_that_work_lose_no_job_and_no_byte(two, postgres, clip, expected, tmp_path):
    draw, source = random.Random(1), clip("a.mp4", 12)
    for _ in range(KILLS):
        jobs = [two.client.submit(source, CONFIG).request_id for _ in range(3)]
        server = draw.choice([two.first, two.second, None])
        time.sleep(draw.uniform(0, 2))
        if server is None:
            postgres.kill()
            postgres.start()
        else:
            server.kill()
            server.start()
        for request_id in jobs:
            assert fetched(two.client, request_id, tmp_path / "out.mp4") == expected
