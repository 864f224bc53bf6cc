"""The progress socket of a real server with a real WebSocket client; what no client can time is tested on a fake socket."""

import asyncio
import hmac
import json
from types import SimpleNamespace

import httpx
import pytest
from serving import KEY, ServerProcess
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from upres.service.api.http import pusher_socket
from upres.service.api.http.pusher import Pusher
from upres.service.api.http.pusher_socket import Connection
from upres.service.auth.api_keys import Keys
from upres.service.domain import states
from upres.service.jobs.reading import JobReader
from upres.service.storage.job_store import Job, Store

HEADERS = {"Authorization": f"Bearer {KEY}"}
CHANNEL = "private-client.default"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with ServerProcess(tmp_path_factory.mktemp("server") / "state") as process:
        yield process


class Client:
    """An independent client of the protocol, written by its documentation."""

    def __init__(self, server, query="protocol=7&client=js&version=8.4.0", key="any-app-key"):
        url = f"ws://127.0.0.1:{server.settings['http_port']}/app/{key}?{query}"
        self.connecting = connect(url, open_timeout=30, close_timeout=5)
        self.base = server.base

    def __enter__(self):
        self.socket = self.connecting.__enter__()
        return self

    def __exit__(self, *caught):
        self.connecting.__exit__(*caught)

    def next(self):
        message = json.loads(self.socket.recv(timeout=60))
        return message["event"], json.loads(message["data"]), message.get("channel")

    def send(self, event, **data):
        self.socket.send(json.dumps({"event": event, "data": data}))

    def opened(self):
        event, data, _ = self.next()
        assert (event, data["activity_timeout"]) == ("pusher:connection_established", 120)
        return data["socket_id"]

    def subscribe(self, channel=CHANNEL, **change):
        socket_id = self.opened()
        answer = authorize(self.base, data={"socket_id": socket_id, "channel_name": channel})
        self.send("pusher:subscribe", **{"channel": channel, "auth": answer.json()["auth"], **change})
        return self.next()


def authorize(base, headers=HEADERS, **body):
    return httpx.post(f"{base}/broadcasting/auth", headers=headers, timeout=30, **body)


def submit(server, path, headers=HEADERS):
    with path.open("rb") as file:
        data = {"model": "RealESRGAN_Vid_x2", "segment_seconds": "0.5", "preset": "ultrafast"}
        url = f"{server.base}/api/v2/videos/upscales"
        answer = httpx.post(url, headers=headers, files={"video": ("a.mp4", file)}, data=data, timeout=60)
    return answer.json()["data"]["request_id"]


def test_a_job_is_told_of_in_order_from_its_start_to_its_result(server, clip):
    updates = []
    with Client(server) as client:
        assert client.subscribe() == ("pusher_internal:subscription_succeeded", {}, CHANNEL)
        request_id = submit(server, clip())
        while not updates or updates[-1]["status"] != "done":
            event, data, channel = client.next()
            if event == "pusher:ping":
                client.send("pusher:pong")
            else:
                assert (event, channel) == ("request.status.updated", CHANNEL)
                updates.append(data)
    assert {data["request_id"] for data in updates} == {request_id}
    assert all(set(data) == {"request_id", "status", "preview", "result_url", "progress"} for data in updates)
    assert [updates[0]["status"], updates[-1]["status"]] == ["processing", "done"]
    assert {data["status"] for data in updates[1:-1]} <= {"in_progress"}
    assert all(data["result_url"] is None for data in updates[:-1])
    percents = [data["progress"] for data in updates]
    assert percents[-1] == "100.00" and percents == sorted(percents, key=float)
    assert all(len(percent.partition(".")[2]) == 2 for percent in percents)
    assert httpx.get(updates[-1]["result_url"]).headers["content-type"] == "video/mp4"
    assert all(data["preview"] is None for data in updates)


def test_a_channel_is_opened_to_its_owner_and_to_one_connection_only(server):
    body = {"socket_id": "12.34", "channel_name": CHANNEL}
    by_form, by_json = authorize(server.base, data=body), authorize(server.base, json=body)
    assert by_form.status_code == 200 and by_form.json() == by_json.json()
    key, _, signed = by_form.json()["auth"].partition(":")
    assert key and len(bytes.fromhex(signed)) == 32
    other = {"socket_id": "12.34", "channel_name": "private-client.other"}
    assert authorize(server.base, json=other).status_code == 403
    assert authorize(server.base, headers={}, json=body).status_code == 401
    wrong = authorize(server.base, json={"socket_id": "12.34:private-client.x"})
    assert wrong.status_code == 422 and set(wrong.json()["errors"]) == {"socket_id", "channel_name"}
    with Client(server) as client:
        event, data, _ = client.subscribe(auth=by_form.json()["auth"])  # another connection's
        assert (event, data["code"]) == ("pusher:error", 4009)
        client.send("pusher:subscribe", channel="public", auth="\ud800é")
        assert client.next()[1]["code"] == 4009
        client.send("pusher:ping")
        assert client.next()[0] == "pusher:pong"


@pytest.mark.parametrize("text", ["", "garbage", "[]", "{}", '{"event": 1, "data": "x"}', "[" * 60_000, b"\xff"])
def test_a_message_that_is_none_is_answered_and_the_next_one_heard(server, text):
    with Client(server) as client:
        client.opened()
        client.socket.send(text)
        assert client.next()[:2] == ("pusher:error", {"code": 4200, "message": "Invalid message format"})
        client.send("pusher:ping")
        assert client.next()[0] == "pusher:pong"


@pytest.mark.parametrize("version", [5, 6, 7])  # pysher 1.0.8 uses 6
def test_each_version_that_clients_say_opens_the_channel(server, version):
    with Client(server, f"client=Pysher&version=0.6.0&protocol={version}") as client:
        assert client.subscribe()[0] == "pusher_internal:subscription_succeeded"


@pytest.mark.parametrize("query", ["", "protocol=4", "protocol=8", "protocol=x"])
def test_other_versions_of_the_protocol_are_refused(server, query):
    with Client(server, query) as client:
        assert client.next()[1]["code"] == 4007
        with pytest.raises(ConnectionClosed) as caught:
            client.next()
        assert caught.value.rcvd.code == 4007


def test_connections_without_a_key_do_not_keep_others_out(tmp_path):
    limit = {"constants": {"upres.service.api.http.pusher.MAX_SOCKETS": 2}}
    with ServerProcess(tmp_path / "state", workers=0, **limit) as server, Client(server) as first:
        assert first.subscribe()[0] == "pusher_internal:subscription_succeeded"
        with Client(server) as silent:
            silent.opened()
            with Client(server) as second:
                assert second.subscribe()[0] == "pusher_internal:subscription_succeeded"
                with pytest.raises(ConnectionClosed) as caught:
                    silent.next()
                assert caught.value.rcvd.code == 4100
                with Client(server) as third:  # the others have channels
                    assert third.next()[1]["code"] == 4100
                for client in (first, second):
                    client.send("pusher:ping")
                    assert client.next()[0] == "pusher:pong"


def test_a_connection_ends_when_its_key_is_revoked(tmp_path, clip):
    with ServerProcess(tmp_path / "state") as server, Client(server) as client:
        client.subscribe()
        store = Store(f"sqlite:///{tmp_path / 'state' / 'upres.db'}")  # as `upres keys` does
        other = {"Authorization": f"Bearer {Keys(store).add('other')}"}
        Keys(store).revoke("default")
        store.close()
        assert submit(server, clip("a.mp4", 1), other)  # an event, so that it checks
        with pytest.raises(ConnectionClosed) as caught:
            client.next()
        assert caught.value.rcvd.code == 4009


def test_a_client_that_leaves_pings_unanswered_loses_its_connection(tmp_path):
    with ServerProcess(tmp_path / "state", ping_seconds=0.2) as server, Client(server) as client:
        client.opened()
        assert client.next()[0] == "pusher:ping"
        with pytest.raises(ConnectionClosed) as caught:
            client.next()
        assert caught.value.rcvd.code == 4201


class Talking:
    """A WebSocket whose client is the test."""

    def __init__(self):
        self.sent, self.coming = asyncio.Queue(), asyncio.Queue()
        self.closed = None

    async def send_text(self, text):
        self.sent.put_nowait(json.loads(text)["event"])

    async def receive(self):
        return await self.coming.get()

    async def close(self, code, reason):
        self.closed = code

    def say(self, event):
        self.coming.put_nowait({"type": "websocket.receive", "text": json.dumps({"event": event, "data": {}})})


def test_pings_come_as_long_as_they_are_answered():
    async def exchange():
        socket, beats = Talking(), asyncio.Queue()
        running = asyncio.create_task(Connection(socket, wait=beats.get, allowed=lambda *_: True).run())
        events = [await socket.sent.get()]
        for _ in range(3):
            beats.put_nowait(None)
            events.append(await socket.sent.get())
            socket.say("pusher:pong")
            socket.say("pusher:ping")
            events.append(await socket.sent.get())
        socket.coming.put_nowait({"type": "websocket.disconnect"})
        await running
        return events, socket.closed

    events, closed = asyncio.run(exchange())
    assert events == ["pusher:connection_established", *["pusher:ping", "pusher:pong"] * 3] and closed == 1000


class Stuck:
    """A WebSocket whose client neither reads nor sends."""

    closed = None

    async def send_text(self, text=""):
        await asyncio.Event().wait()

    receive = send_text

    async def close(self, code, reason):
        self.closed = code


def test_a_client_that_does_not_read_loses_its_connection_and_nothing_grows():
    async def exchange():
        socket = Stuck()
        slow = Connection(socket, wait=asyncio.Event().wait, allowed=lambda *_: True)
        running = asyncio.create_task(slow.run())
        for number in range(pusher_socket.QUEUE + 2):
            slow.put("request.status.updated", {"progress": f"{number}.00"}, CHANNEL)
        await asyncio.wait_for(running, 60)
        return socket.closed

    assert asyncio.run(exchange()) == 4100


class Subscriber(Talking):
    """A WebSocket whose client subscribes to its channel. received: the jobs of the events it received."""

    def __init__(self):
        super().__init__()
        self.query_params, self.url = {"protocol": "7"}, SimpleNamespace(scheme="ws", netloc="127.0.0.1")
        self.received = asyncio.Queue()

    async def accept(self):
        pass

    async def send_text(self, text):
        message = json.loads(text)
        data = json.loads(message["data"])
        if message["event"] == "pusher:connection_established":
            signed = hmac.new(b"secret", f"{data['socket_id']}:{CHANNEL}".encode(), "sha256").hexdigest()
            ask = {"event": "pusher:subscribe", "data": {"channel": CHANNEL, "auth": f"upres:{signed}"}}
            self.coming.put_nowait({"type": "websocket.receive", "text": json.dumps(ask)})
        else:
            self.received.put_nowait(data.get("request_id"))


class Counting(JobReader):
    """Counts the checks for new events, and the reads of events."""

    looks = readings = 0

    def change(self, request_id):
        self.looks += 1
        return super().change(request_id)

    async def events(self, after, request_id=None):
        self.readings += 1
        return await super().events(after, request_id)


def test_events_are_read_for_clients_only_and_those_from_before_they_came_are_not_told(tmp_path):
    async def exchange():
        jobs = Counting(Store.in_memory(), None, tmp_path)
        keys = Keys(jobs.store)
        keys.add("default")
        pusher = Pusher(jobs, keys, None, secret="secret", public_url=None, wait=asyncio.Event().wait)
        running = asyncio.create_task(pusher.run())
        for name in ("before", "later"):
            jobs.store.add(Job(name, "default", {}))
        await asyncio.sleep(0)  # it waits now
        await jobs.ledger.change("before", states.started)
        while jobs.looks < 2:
            await asyncio.sleep(0)
        unread, client = jobs.readings, Subscriber()
        connected = asyncio.create_task(pusher.connect(client))
        events = [await client.received.get()]
        await jobs.ledger.change("later", states.started)
        events.append(await client.received.get())
        client.coming.put_nowait({"type": "websocket.disconnect"})
        await connected
        running.cancel()
        return unread, events

    async def within_a_minute():
        async with asyncio.timeout(60):
            return await exchange()

    assert asyncio.run(within_a_minute()) == (0, [None, "later"])
