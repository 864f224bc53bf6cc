"""Two real servers on one PostgreSQL database and one state folder, of which one works: the other takes over, clients continue."""

import random
import signal
import threading
import time
from contextlib import contextmanager
from types import SimpleNamespace

import databases
import pytest
from serving import ALONE, KEY, Rpc, ServerProcess, streamed_past_a_kill

from upres.service.client import Client
from upres.service.domain.errors import StoreError
from upres.service.server.settings import Settings
from upres.service.server.standby import MARK, Standby
from upres.v2 import upscale_pb2 as pb

pytestmark = pytest.mark.scale

CONFIG = pb.UpscaleConfig(model="RealESRGAN_Vid_x2", segment_seconds=0.5, preset="ultrafast")


@contextmanager
def pair(folder, database):
    """Two servers, of which the first works and the second stands by, and a client that knows both."""
    servers = [ServerProcess(folder / "state", name, database=database, **ALONE) for name in ("first", "second")]
    target = ",".join(f"127.0.0.1:{server.settings['grpc_port']}" for server in servers)
    try:
        servers[0].start()
        servers[1].start(until=b"standing by")
        with Client(f"ipv4:{target}", KEY, patience=120) as client:
            yield SimpleNamespace(first=servers[0], second=servers[1], client=client, kill=Killed(servers))
    finally:
        for server in servers:
            server.end()


class Killed:
    """Kills the working server, and restarts it as the standby."""

    def __init__(self, servers):
        self.working, self.waiting = servers

    def __call__(self):
        self.working.kill()
        self.working, self.waiting = self.waiting, self.working
        self.waiting.start(until=b"standing by")


@pytest.fixture
def two(postgres, tmp_path):
    with pair(tmp_path, databases.fresh()) as two:
        yield two


@pytest.fixture(scope="module")
def expected(clip, tmp_path_factory):
    """Return the result of an undisturbed job, on SQLite."""
    folder = tmp_path_factory.mktemp("undisturbed")
    with ServerProcess(folder / "state") as server, Client(server.target, KEY) as client:
        return result(client, client.submit(clip("a.mp4", 12), CONFIG).request_id, folder)


def result(client, request_id, folder):
    """Wait for a job, and return the bytes of its file."""
    *_, job = client.watch(request_id)
    assert job.status == pb.Job.STATUS_DONE, job
    client.download(request_id, folder / "out.mp4")
    return (folder / "out.mp4").read_bytes()


def test_the_other_server_finishes_the_job_of_one_that_was_killed_and_the_client_goes_on(two, clip, expected, tmp_path):
    request_id = two.client.submit(clip("a.mp4", 12), CONFIG).request_id
    watching = two.client.watch(request_id)
    assert any(job.progress > 0 for job in watching)
    two.first.kill()
    assert result(two.client, request_id, tmp_path) == expected
    with Rpc(two.second.target) as rpc:
        assert rpc.get(request_id).status == pb.Job.STATUS_DONE


def test_a_stream_goes_on_at_the_other_server(two, clip, expected, tmp_path):
    """The fragments equal those of a single server."""
    request_id = streamed_past_a_kill(two.client, clip("a.mp4", 12), CONFIG, lambda _: two.first.kill())
    assert result(two.client, request_id, tmp_path) == expected


def test_a_server_that_stops_in_peace_hands_over_at_once(two, clip, expected, tmp_path):
    request_id = two.client.submit(clip("a.mp4", 12), CONFIG).request_id
    assert two.first.stop() == 0
    assert result(two.client, request_id, tmp_path) == expected


def test_a_server_that_stands_by_stops_when_asked(two):
    assert two.second.stop() == 0
    with Rpc(two.first.target) as rpc:
        assert list(rpc.call(rpc.jobs.ListJobs, pb.ListJobsRequest()).jobs) == []


def test_a_server_that_hung_and_comes_back_changes_nothing_and_ends(two, clip, expected, tmp_path):
    request_id = two.client.submit(clip("a.mp4", 12), CONFIG).request_id
    assert any(job.progress > 0 for job in two.client.watch(request_id))
    two.first.process.send_signal(signal.SIGSTOP)
    with Client(two.second.target, KEY, patience=120) as client:
        client.get(request_id)  # retries until there is an answer
    with Rpc(two.second.target) as rpc:
        assert rpc.get(request_id).request_id == request_id
        two.first.process.send_signal(signal.SIGCONT)
        assert two.first.wait() == 1
        assert any("has taken over" in line["message"] for line in two.first.lines)
        *_, last = rpc.watch(request_id)
        assert last.event == "done" and rpc.file(request_id) == expected


def test_a_database_that_is_away_for_longer_than_a_lease_costs_no_job(two, postgres, clip, expected, tmp_path):
    request_id = two.client.submit(clip("a.mp4", 12), CONFIG).request_id
    assert any(job.progress > 0 for job in two.client.watch(request_id))
    postgres.kill()
    try:
        time.sleep(15)  # longer than the lease, which is not a setting
    finally:
        postgres.start()
    assert result(two.client, request_id, tmp_path) == expected


def test_a_state_folder_of_another_database_is_refused(postgres, tmp_path):
    settings = Settings(state=tmp_path / "one", database=databases.fresh())
    for _ in range(2):
        Standby.open(settings, lambda step: None).store.close()
    with pytest.raises(
        StoreError, match=r"is not the state folder of this database's jobs.* write \w+ into .*database\.id"
    ):
        Standby.open(settings.model_copy(update={"state": tmp_path / "two"}), lambda step: None)
    (tmp_path / "two" / MARK).write_text((tmp_path / "one" / MARK).read_text() + "\n")  # as editors and `echo` do
    Standby.open(settings.model_copy(update={"state": tmp_path / "two"}), lambda step: None).store.close()


@pytest.mark.soak
def test_twenty_random_kills_lose_no_job_and_no_byte(two, postgres, clip, expected, tmp_path):
    draw = random.Random(1)
    for _ in range(20):
        request_id = two.client.submit(clip("a.mp4", 12), CONFIG).request_id
        kill = draw.choice([two.kill, two.kill, lambda: (postgres.kill(), postgres.start())])
        late = threading.Timer(draw.uniform(0, 3), kill)
        late.start()
        assert result(two.client, request_id, tmp_path) == expected
        late.join()
