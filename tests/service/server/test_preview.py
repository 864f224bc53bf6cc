"""The page of a live run in this process: any number of viewers, but only with the key."""

import asyncio
import io
import json
import threading
import time
import urllib.request

import av
import media
from fake import Nearest
from watching import SECONDS, seen, times, visiting, watch

from upres.engine.encode.options import Encoder
from upres.engine.live.session import LiveRun, open_live
from upres.engine.pipeline.options import Job
from upres.engine.pipeline.progress import Progress
from upres.service.server import preview as preview_module
from upres.service.server.preview import Preview

ENCODER = Encoder(preset="ultrafast", fragment="frame", live=True, segment_seconds=0.4)


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


def test_viewers_receive_the_end_of_a_run_that_is_over(clips, monkeypatch):
    """Their connections are slow, so that all of it is still to be sent when the run has ended."""
    source = media.clip(
        clips / "ended.ts", "-c:v", "libx264", "-g", 5, picture="testsrc2=size=64x48:rate=10:duration=1"
    )
    sending, progress, results = Preview._send, Progress(), []

    async def slowly(self, websocket, header, data=None):
        await asyncio.sleep(0.1)
        await sending(self, websocket, header, data)

    monkeypatch.setattr(Preview, "_send", slowly)
    with Preview(progress) as preview:
        watching = threading.Thread(target=lambda: results.append(watch(preview.url)))
        watching.start()
        assert preview.wait_for_viewer(SECONDS)
        with open_live(str(source)) as reader:
            LiveRun([], preview).run(reader, Job((Nearest(),), ENCODER, streamed=True), progress)
    watching.join(SECONDS)
    [(data, last)] = results
    assert last["status"] == "done" and last["frames_out"] == 10
    assert times(data)[-1] == 0.9


def test_a_viewer_that_reads_nothing_does_not_keep_the_page_open(monkeypatch):
    monkeypatch.setattr(preview_module, "CLOSING_SECONDS", 0.1)
    progress = Progress()
    sending = threading.Event()

    async def forever(self, websocket, header, data=None):
        sending.set()
        await asyncio.sleep(SECONDS)

    monkeypatch.setattr(Preview, "_send", forever)
    preview = Preview(progress)
    with preview:
        socket = visiting(preview.url)
        opened = socket.__enter__()
        assert sending.wait(SECONDS)
    assert not preview._thread.is_alive()
    opened.close()


def test_a_page_is_waited_for_until_someone_with_the_key_opens_it():
    with Preview(Progress()) as preview:
        with visiting(preview.url, "wrong") as socket:
            seen(socket)
        assert not preview.wait_for_viewer(0.01)
        with visiting(preview.url):
            assert preview.wait_for_viewer(SECONDS)
        preview._loop.call_soon_threadsafe(preview._over.set)
        preview._thread.join(SECONDS)
        preview._watched.clear()
        assert not preview.wait_for_viewer(SECONDS)  # a page that has died is not waited for


def test_the_last_fragment_is_not_lost_when_the_end_follows_at_once(clips):
    """The event loop is busy meanwhile, so that it processes both at once."""
    source = media.clip(clips / "last.ts", "-c:v", "libx264", picture="testsrc2=size=64x48:rate=10:duration=1")
    fragments, progress = [], Progress()

    class Collecting:
        def push(self, *fragment):
            fragments.append(fragment)

        def end(self): ...

    with open_live(str(source)) as reader:
        LiveRun([], Collecting()).run(reader, Job((Nearest(),), ENCODER, streamed=True), progress)
    with Preview(progress) as preview, visiting(preview.url) as socket:
        assert preview.wait_for_viewer(SECONDS)
        preview._loop.call_soon_threadsafe(time.sleep, 0.2)
        for fragment in fragments:
            preview.push(*fragment)
        preview.end()
        data, last = seen(socket)
    assert last["status"] == "done"
    assert times(data)[-1] == 0.9
