"""The page of a live run in this process: any number of viewers, but only with the key."""

import io
import json
import threading
import urllib.request
from contextlib import contextmanager
from urllib.parse import parse_qs, urlsplit

import av
import media
from fake import Nearest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from upres.engine.encode.options import Encoder
from upres.engine.live.session import LiveRun, open_live
from upres.engine.pipeline.options import Job
from upres.engine.pipeline.progress import Progress
from upres.service.server.preview import Preview

SECONDS = 120
ENCODER = Encoder(preset="ultrafast", fragment="frame", live=True, segment_seconds=0.4)


@contextmanager
def visiting(url, key=None):
    """A socket as the page opens it."""
    place, link = urlsplit(url), parse_qs(urlsplit(url).fragment)
    with connect(f"ws://{place.netloc}/api/v2/live", max_size=None, open_timeout=SECONDS) as socket:
        socket.send(json.dumps({"key": key or link["key"][0], "attach": link["watch"][0]}))
        yield socket


def seen(socket):
    """Everything that a viewer receives: the video's bytes, and the last progress of the run."""
    data, last = bytearray(), {}
    try:
        while True:
            header = json.loads(socket.recv(timeout=SECONDS))
            last = header.get("progress", last)
            if about := header.get("track") or header.get("fragment"):
                piece = socket.recv(timeout=SECONDS)
                data += piece if "video" in (about.get("name"), about.get("track")) else b""
    except ConnectionClosed:
        return bytes(data), last


def test_all_who_watch_see_a_run_to_its_end_which_has_no_other_destination(clips):
    source = media.clip(
        clips / "watched.ts", "-c:v", "libx264", "-g", 5, picture="testsrc2=size=64x48:rate=10:duration=1"
    )
    progress, model, results = Progress(), Nearest(), []
    with Preview(progress) as preview, visiting(preview.url) as one, visiting(preview.url) as two:
        for socket in (one, two):
            assert json.loads(socket.recv(timeout=SECONDS)) == {"accepted": {"request_id": "live"}}
        watching = [
            threading.Thread(target=lambda socket=socket: results.append(seen(socket))) for socket in (one, two)
        ]
        for thread in watching:
            thread.start()
        with open_live(str(source)) as reader:
            LiveRun([], preview).run(reader, Job((model,), ENCODER, streamed=True), progress)
        for thread in watching:
            thread.join(SECONDS)
    assert len(results) == 2 and len(model.opened) == 1
    for data, last in results:
        assert last["status"] == "done" and last["frames_out"] == 10
        with av.open(io.BytesIO(data)) as file:  # from the keyframe that was the newest when it connected
            assert 0 < len(list(file.decode(video=0))) <= 10 and file.streams.video[0].width == 128


def test_a_page_that_has_died_costs_itself_alone(clips):
    source = media.clip(clips / "unwatched.ts", "-c:v", "libx264", picture="testsrc2=size=64x48:rate=10:duration=1")
    progress = Progress()
    with Preview(progress) as preview:
        preview._loop.call_soon_threadsafe(preview._over.set)
        preview._thread.join(SECONDS)
        with open_live(str(source)) as reader:
            LiveRun([], preview).run(reader, Job((Nearest(),), ENCODER, streamed=True), progress)
    assert progress.frames_out == 10


def test_the_page_is_there_and_who_lacks_the_key_sees_nothing():
    with Preview(Progress()) as preview:
        with urllib.request.urlopen(preview.url.partition("#")[0], timeout=SECONDS) as page:
            assert b"<title>upres</title>" in page.read()
        for key in ("wrong", ["no text"]):
            with visiting(preview.url, key) as socket:
                assert "Open the address" in json.loads(socket.recv(timeout=SECONDS))["error"]["message"]
                assert seen(socket) == (b"", {})
