"""The WebSocket for browsers, with a real client and a real server process."""

import json
import threading
from contextlib import ExitStack, contextmanager

import pytest
import referee
from camera import recorded
from serving import KEY, ServerProcess
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from upres.engine.encode.options import LIVE_PRESET
from upres.service.api.http.live.socket import MAX_UNAUTHENTICATED, _spec

CHUNK = 1 << 15
KEY_FRAMES = 5  # half a second at ten frames per second
START = {"model": "RealESRGAN_Vid_x2", "segment_seconds": 0.5, "preset": "ultrafast"}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with ServerProcess(tmp_path_factory.mktemp("server") / "state") as process:
        yield process.ready()


@contextmanager
def opened(server, first, **options):
    url = f"ws://127.0.0.1:{server.settings['http_port']}/api/v2/live"
    with connect(url, max_size=None, open_timeout=30, **options) as socket:
        socket.send(json.dumps({"key": KEY, **first}))
        yield socket


def messages(socket):
    """Yield each header with its bytes, until the server closes."""
    try:
        while True:
            header = json.loads(socket.recv(timeout=60))
            yield header, socket.recv(timeout=60) if {"track", "fragment"} & set(header) else b""
    except ConnectionClosed:
        return


def video_of(received):
    """Return the video bytes of messages: the track's header, and each fragment."""
    init = [part for header, part in received if header.get("track", {}).get("name") == "video"]
    return init + [part for header, part in received if header.get("fragment", {}).get("track") == "video"]


@pytest.mark.parametrize(("fields", "preset"), [({}, LIVE_PRESET), ({"preset": "medium"}, "medium")])
def test_live_results_are_encoded_fast_by_default(fields, preset):
    assert _spec({"model": "RealESRGAN_Vid_x2", **fields}).preset == preset


def test_a_clip_is_seen_by_its_sender_and_a_viewer(server, clip, tmp_path):
    data = clip("frag.mp4", 3, "-movflags", "frag_keyframe+empty_moov").read_bytes()
    with opened(server, {"start": START}) as sender:
        request_id = json.loads(sender.recv(timeout=60))["accepted"]["request_id"]
        with opened(server, {"attach": request_id}) as viewer:
            assert "accepted" in json.loads(viewer.recv(timeout=60))
            for at in range(0, len(data), CHUNK):
                sender.send(data[at : at + CHUNK])
            sender.send(b"")  # as the last piece of a browser's recorder can be
            sender.send(json.dumps({"end": True}))
            sent, viewed = (list(messages(socket)) for socket in (sender, viewer))
    init, *frames = video_of(sent)
    assert len(frames) == 30
    same_init, *seen = video_of(viewed)  # from the newest keyframe on when the viewer connected
    assert same_init == init and seen == frames[-len(seen) :] and len(seen) % KEY_FRAMES == 0
    for parts in (frames, seen):
        (tmp_path / "out.mp4").write_bytes(init + b"".join(parts))
        assert referee.size(tmp_path / "out.mp4") == (128, 96) and referee.count(tmp_path / "out.mp4") == len(parts)
    for received in (sent, viewed):
        assert received[-1][0]["progress"]["status"] == "done" and received[-1][0]["progress"]["frames_out"] == 30


@pytest.mark.parametrize(
    ("first", "problem"),
    [
        ({"key": "wrong", "start": START}, "Unauthenticated"),
        ({"key": "\ud800", "start": START}, "Unauthenticated"),
        ({"start": {**START, "live_source": "\ud800"}}, "no live_source ?;"),
        ({"start": {"model": "none"}}, "selected model is invalid"),
        ({"start": {**START, "when_slow": "x"}}, "wait or drop"),
        ({"start": {**START, "step_down": "x"}}, "true or false"),
        ({"start": {**START, "step_down": True}}, "set when_slow to drop"),
        ({"attach": "none"}, "request_id"),
        ({"start": 1}, "must be an object"),
    ],
)
def test_what_is_wrong_is_said_before_the_close(server, first, problem):
    with opened(server, first) as socket:
        assert problem in json.dumps(json.loads(socket.recv(timeout=60))["error"])
        with pytest.raises(ConnectionClosed):
            socket.recv(timeout=60)


def test_a_slow_network_gives_way_to_a_lighter_one_and_every_report_says_so(tmp_path):
    """The slow viewer takes longer for a frame than three source frames last, on any machine."""
    networks = []
    with ServerProcess(tmp_path / "state", models="fake:stepping") as server:
        start = {**START, "when_slow": "drop", "step_down": True}
        with opened(server.ready(), {"start": start}) as socket, camera(socket):
            for header, _ in messages(socket):
                networks.append(header.get("progress", {}).get("network"))
                if networks[-1] == "light-x2":
                    break
    assert "slow-x2" in networks
    assert any("slow-x2 is too slow here" in text for text in header["progress"]["notes"])


@contextmanager
def camera(socket):
    """Send twenty frames per second until the context ends."""
    over, pieces = threading.Event(), recorded(range(1200), rate=20)

    def send():
        for piece in pieces:
            if over.wait(0.05):
                return
            socket.send(piece)

    sending = threading.Thread(target=send)
    sending.start()
    try:
        yield
    finally:
        over.set()
        sending.join()


def test_a_source_that_is_no_video_ends_with_why(server):
    with opened(server, {"start": START}) as socket:
        for _ in range(8):
            socket.send(b"garbage!" * 4096)
        socket.send(json.dumps({"end": True}))
        *_, (last, _) = messages(socket)
    assert last["progress"]["status"] == "error" and last["progress"]["error"]["message"]


def test_a_viewer_who_sends_something_is_refused(server, clip):
    with opened(server, {"start": START}) as sender:
        request_id = json.loads(sender.recv(timeout=60))["accepted"]["request_id"]
        with opened(server, {"attach": request_id}) as viewer:
            viewer.send(b"bytes")
            *_, (last, _) = messages(viewer)
            assert "follows a job" in json.dumps(last["error"])
        sender.send(json.dumps({"end": True}))


@pytest.mark.parametrize("origin", ["https://elsewhere.example", "null", "http://["])
def test_pages_of_other_origins_are_refused(server, origin):
    with pytest.raises(InvalidStatus) as refused, opened(server, {"start": START}, origin=origin):
        pass
    assert refused.value.response.status_code == 403


def test_clients_without_a_key_do_not_keep_others_out(server):
    url = f"ws://127.0.0.1:{server.settings['http_port']}/api/v2/live"
    with ExitStack() as stack:
        silent = [stack.enter_context(connect(url, open_timeout=30)) for _ in range(MAX_UNAUTHENTICATED)]
        with opened(server, {"start": 1}) as socket:
            assert "must be an object" in json.dumps(json.loads(socket.recv(timeout=60))["error"])
        assert "first message" in json.dumps(json.loads(silent[0].recv(timeout=5))["error"])
