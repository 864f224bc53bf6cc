"""A real standby server of another one, on one PostgreSQL database: clients and probes may use either."""

import asyncio
import json
import signal
import socket
import ssl
import threading
import time
from contextlib import contextmanager
from types import SimpleNamespace

import databases
import grpc
import httpx
import pytest
import trustme
from grpc_health.v1 import health_pb2, health_pb2_grpc
from serving import ALONE, KEY, Rpc, ServerProcess
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from upres.service.client import Client
from upres.service.server.forwarding.stand_in import HERE, StandIn, peer_host
from upres.service.server.settings import Settings
from upres.service.server.standby import Standby
from upres.service.storage.dialects import local_address
from upres.v2 import upscale_pb2 as pb

pytestmark = pytest.mark.scale

CONFIG = pb.UpscaleConfig(model="RealESRGAN_Vid_x2", segment_seconds=0.5, preset="ultrafast")
FORM = {"model": "RealESRGAN_Vid_x2", "preset": "ultrafast"}
HEADERS = {"Authorization": f"Bearer {KEY}"}
STARTED = {"start": {"model": "RealESRGAN_Vid_x2", "segment_seconds": 0.5, "preset": "ultrafast"}}
CHUNK = 1 << 15


@contextmanager
def pair(folder, **settings):
    """Two servers: the first is active, the second stands by."""
    database = databases.fresh()
    first, second = (
        ServerProcess(folder / "state", name, database=database, **ALONE, **settings) for name in ("1", "2")
    )
    try:
        first.start()
        second.start(until=b"standing by")
        yield SimpleNamespace(first=first, second=second)
    finally:
        first.end()
        second.end()


@pytest.fixture(scope="module")
def two(postgres, tmp_path_factory):
    """Two servers that only one test may kill, which must restart them."""
    with pair(tmp_path_factory.mktemp("two")) as two:
        two.first.ready()
        yield two


@pytest.fixture
def web(two):
    with httpx.Client(base_url=two.second.base, headers=HEADERS, timeout=60) as web:
        yield web


def until_done(web, request_id):
    while (job := web.get(f"/api/v2/jobs/{request_id}").json()["data"])["status"] not in ("done", "error"):
        time.sleep(0.05)
    assert job["status"] == "done", job
    return job


def test_a_job_is_sent_followed_and_fetched_over_http(two, web, clip):
    answer = web.post("/api/v2/videos/upscales", files={"video": clip("a.mp4", 3).read_bytes()}, data=FORM)
    assert answer.status_code == 200 and int(answer.headers["x-ratelimit-limit"]) == 600, answer.text
    job = until_done(web, answer.json()["data"]["request_id"])
    assert job["result_url"].startswith(two.second.base)  # as its client reached it
    whole = httpx.get(job["result_url"])
    assert whole.status_code == 200 and len(whole.content) == int(whole.headers["content-length"])
    part = httpx.get(job["result_url"], headers={"Range": "bytes=100-199"})
    assert (part.status_code, part.content) == (206, whole.content[100:200])
    assert part.headers["content-range"] == f"bytes 100-199/{len(whole.content)}"
    assert httpx.head(job["result_url"]).headers["content-length"] == str(len(whole.content))
    behind = httpx.get(job["result_url"].replace(two.second.base, two.first.base))
    assert behind.content == whole.content and behind.headers.keys() == whole.headers.keys()


def test_pages_and_refusals_are_those_of_the_one_that_works(two, web):
    for path in ("/", "/openapi.json", "/none", "/api/v2/jobs/none", "/results/none?expires=1&signature=x"):
        answer, direct = web.get(path), httpx.get(two.first.base + path, headers=HEADERS)
        own, other = two.second.base.encode(), two.first.base.encode()
        assert (answer.status_code, answer.content.replace(own, other)) == (direct.status_code, direct.content)
    assert web.get("/api/v2/jobs", headers={"Authorization": "Bearer wrong"}).status_code == 401


def test_a_job_is_sent_watched_and_fetched_over_grpc(two, clip):
    with Rpc(two.second.target) as rpc, Rpc(two.first.target) as first:
        request_id = rpc.create(clip("a.mp4", 3).read_bytes(), CONFIG).request_id
        *_, last = rpc.watch(request_id)
        assert last.event == "done" and rpc.file(request_id) == first.file(request_id)
        errors = []
        for each in (rpc, first):
            with pytest.raises(grpc.RpcError) as caught:
                each.get("22222222-2222-4222-8222-222222222222")
            errors.append((caught.value.code(), caught.value.details(), caught.value.trailing_metadata()))
        assert errors[0] == errors[1] and errors[0][0] is grpc.StatusCode.NOT_FOUND
        with pytest.raises(grpc.RpcError) as caught:
            rpc.call(rpc.upscale.Upscale, iter([]), timeout=60).__next__()
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    with Client(two.second.target, KEY) as client, clip("a.mp4", 3).open("rb") as source:
        *_, done = client.stream(source, CONFIG)
        assert done.status == pb.Job.STATUS_DONE


def test_a_live_source_goes_through_a_socket_and_its_players_get_it(two, clip):
    """The same responses as from the active server, including LL-HLS."""
    data = clip("frag.mp4", 3, "-movflags", "frag_keyframe+empty_moov").read_bytes()
    with connect(f"ws{two.second.base[4:]}/api/v2/live", max_size=None, open_timeout=60) as live:
        live.send(json.dumps({"key": KEY, **STARTED}))
        accepted = json.loads(live.recv(timeout=60))["accepted"]
        for at in range(0, len(data), CHUNK):
            live.send(data[at : at + CHUNK])
        playlist = httpx.get(f"{two.second.base}{accepted['hls']}", timeout=60)
        assert playlist.status_code == 200 and "#EXT-X-STREAM-INF" in playlist.text
        live.send(json.dumps({"end": True}))
        frames, last = 0, {}
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                if isinstance(message := live.recv(timeout=60), str):
                    last = json.loads(message)
                    frames += "fragment" in last and last["fragment"]["track"] == "video"
        assert closed.value.rcvd.code == 1000
    assert frames == 30 and last["progress"]["status"] == "done"


def test_a_socket_that_is_refused_or_wants_to_go_elsewhere_gets_nowhere(two):
    with pytest.raises(InvalidStatus) as caught:
        connect(f"ws{two.second.base[4:]}/none").__enter__()
    assert caught.value.response.status_code == 403
    with httpx.Client() as raw:  # would become part of the host after `ws://HOST:PORT`
        request = raw.build_request("GET", two.second.base, headers={
            "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        })  # fmt: skip
        request.extensions["target"] = f"@127.0.0.1:{two.first.settings['http_port']}/api/v2/live".encode()
        assert raw.send(request).status_code == 404


def test_probes_learn_that_it_lives_and_whether_one_works(two, web):
    assert web.get("/healthz").json() == {"status": "ok"}
    assert web.get("/readyz").json() == {"status": "ready"}
    assert "upres_standing_by 1" in web.get("/metrics").text  # otherwise its jobs would be counted twice
    with grpc.insecure_channel(two.second.target) as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=60)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_strangers_are_not_taken_for_servers_and_nothing_goes_in_circles(two):
    headers = {"X-Upres-Peer": "guess", "X-Forwarded-Host": "evil.example", "X-Forwarded-For": "10.0.0.1"}
    page = httpx.get(f"{two.first.base}/api/v2/models", headers={**HEADERS, **headers})
    assert page.status_code == 200 and "evil" not in page.text
    again = httpx.get(f"{two.second.base}/api/v2/models", headers={**HEADERS, **headers})
    assert (
        again.status_code == 503 and again.headers["retry-after"] == "5" and "not ready yet" in again.json()["message"]
    )
    del headers["X-Upres-Peer"]
    page = httpx.get(f"{two.second.base}/api/v2/models", headers={**HEADERS, **headers})
    assert page.status_code == 200 and "evil" not in page.text


class Asking:
    """Checks repeatedly, on new connections, that a server responds, until it is stopped."""

    def __init__(self, server):
        self._server, self._over, self.failed, self.states = server, threading.Event(), [], set()
        self._thread = threading.Thread(target=self._ask)

    def _ask(self):
        while not self._over.is_set():
            try:
                httpx.get(f"{self._server.base}/healthz", timeout=60).raise_for_status()
                answer = httpx.get(f"{self._server.base}/readyz", timeout=60)
                self.states.add(answer.json().get("reason", answer.json()["status"]))
                assert answer.status_code in (200, 503)
            except Exception as error:
                self.failed.append(error)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()


def test_a_takeover_in_the_middle_is_survived_by_a_client_that_knows_the_other_server_alone(postgres, clip, tmp_path):
    with pair(tmp_path) as two, Client(two.second.target, KEY, patience=120) as client, Asking(two.second) as asking:
        parts, killed = [], False
        with clip("a.mp4", 12).open("rb") as source:
            for part in client.stream(source, CONFIG):
                parts.append(part)
                if not killed and isinstance(part, pb.Fragment):
                    two.first.kill()
                    killed = True
        assert killed and parts[-1].status == pb.Job.STATUS_DONE
        pieces = [(part.track, part.segment, part.fragment) for part in parts if isinstance(part, pb.Fragment)]
        assert len(pieces) == len(set(pieces))
        two.second.ready()
    assert asking.failed == []
    assert any("within seconds" in state for state in asking.states) and "ready" in asking.states


def test_what_waits_for_a_server_that_hangs_ends_when_another_one_takes_over(postgres, tmp_path):

    with pair(tmp_path, workers=0) as two:
        two.first.process.send_signal(signal.SIGSTOP)
        answer = httpx.get(f"{two.second.base}/api/v2/jobs", headers=HEADERS, timeout=120)
        assert answer.status_code == 503 and answer.headers["retry-after"] == "5"
        assert "another one takes over" in answer.json()["message"]


class Certificates:
    """A certificate authority for the test, and the settings of two servers that use it."""

    def __init__(self, folder):
        authority = trustme.CA()
        issued = authority.issue_cert("127.0.0.1")
        self.root, certificate, key = folder / "root.pem", folder / "server.pem", folder / "server.key"
        authority.cert_pem.write_to_path(self.root)
        issued.private_key_pem.write_to_path(key)
        issued.cert_chain_pems[0].write_to_path(certificate)
        self.settings = {"tls_certificate": str(certificate), "tls_key": str(key)}


class Unheld:
    """A place among servers of which none is active. Its database exists."""

    def __init__(self):
        self.store = SimpleNamespace(meta=lambda name, create: create(), close=lambda: None)
        self.stopped = False

    def set_addresses(self, http, grpc):
        pass

    async def wait(self, follow):
        pass

    async def stop(self):
        self.stopped = True


class Shut:
    """Ports that do not listen yet."""

    http_port, grpc_port = 8080, 8081

    async def close(self):
        pass


def test_a_signal_that_comes_with_its_turn_ends_it():
    async def scenario():
        signalled, standby = asyncio.Queue(), Unheld()
        signalled.put_nowait(signal.SIGTERM)
        assert not await StandIn(Settings(), standby, Shut()).has_turn(signalled, lambda line: None)
        assert standby.stopped

    asyncio.run(scenario())


@pytest.mark.parametrize("trusts", [True, False])
def test_with_certificates_it_passes_on_to_whom_it_can_verify_alone(postgres, tmp_path, trusts):
    certificates = Certificates(tmp_path)
    settings = {**certificates.settings, **({"peer_ca": str(certificates.root)} if trusts else {})}
    context = ssl.create_default_context(cafile=certificates.root)
    credentials = grpc.ssl_channel_credentials(certificates.root.read_bytes())
    with pair(tmp_path, workers=0, **settings) as two:
        base = two.second.base.replace("http:", "https:")
        answer = httpx.get(f"{base}/api/v2/jobs", headers=HEADERS, verify=context, timeout=60)
        assert httpx.get(f"{base}/healthz", verify=context, timeout=60).status_code == 200
        if trusts:
            assert answer.status_code == 200
            with connect(f"wss{base[5:]}/api/v2/live", ssl=context) as live:
                live.send(json.dumps({"key": "wrong", **STARTED}))
                assert "Unauthenticated" in live.recv(timeout=60)
            with Client(two.second.target, KEY, credentials=credentials) as client:
                assert client.jobs() == []
        else:
            assert answer.status_code == 503
            assert any("CERTIFICATE_VERIFY_FAILED" in line["message"] for line in two.second.lines)


@pytest.mark.parametrize(
    ("set_", "expected"),
    [
        ({"peer_host": "one.example", "host": "0.0.0.0"}, "one.example"),
        ({"host": "10.0.0.1"}, "10.0.0.1"),
        ({"host": "::"}, HERE),  # PostgreSQL is reached through a Unix socket here
    ],
)
def test_where_others_reach_it_is_set_or_found(postgres, tmp_path, set_, expected):
    settings = Settings(state=tmp_path, database=databases.fresh(), **set_)
    standby = Standby.open(settings, lambda step: None)
    assert peer_host(settings, standby) == expected
    standby.store.close()


@pytest.mark.parametrize(
    ("set_", "address", "warns"),
    [
        ({"host": "0.0.0.0"}, "127.0.0.1", True),
        ({"host": "::"}, "::1", True),
        ({"host": "0.0.0.0"}, None, True),
        ({"host": "0.0.0.0"}, "10.0.0.2", False),
        ({"host": "0.0.0.0", "peer_host": "127.0.0.1"}, None, False),  # as requested
        ({}, None, False),
    ],
)
def test_an_address_that_no_other_machine_reaches_is_warned_of_where_it_was_found(set_, address, warns, caplog):
    standby = SimpleNamespace(store=SimpleNamespace(own_address=lambda: address))
    peer_host(Settings(**set_), standby)
    assert ("set UPRES_PEER_HOST" in caplog.text) is warns


def test_the_address_that_a_database_is_reached_from_is_that_of_this_end():
    """Not the address that the database sees, which may be a router's."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as end:
        connection = SimpleNamespace(connection=SimpleNamespace(dbapi_connection=end))
        assert local_address(connection) == "127.0.0.1"
        assert end.fileno() >= 0  # which is still open
