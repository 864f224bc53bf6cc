"""A live job of a real server at its URL for players: by the rules of the draft, and with an independent player."""

import json
import queue
import threading
import urllib.error
import urllib.parse
import urllib.request
from contextlib import contextmanager

import media
import pytest
import referee
from hls import Player, attributes
from serving import KEY, ServerProcess
from websockets.sync.client import connect

CHUNK = 1 << 15
START = {"model": "RealESRGAN_Vid_x2", "segment_seconds": 0.5, "preset": "ultrafast"}
LINGER = {"upres.service.api.http.hls.routes.LINGER_SECONDS": 3600}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with ServerProcess(tmp_path_factory.mktemp("server") / "state", constants=LINGER) as process:
        yield process.ready()


class Sending:
    """A live job that accepts a source. address: URL of its playlist."""

    def __init__(self, server, socket):
        self._socket = socket
        socket.send(json.dumps({"key": KEY, "start": START}))
        accepted = json.loads(socket.recv(timeout=60))["accepted"]
        self.request_id = accepted["request_id"]
        self.address = server.base + accepted["hls"]

    def send(self, data):
        for at in range(0, len(data), CHUNK):
            self._socket.send(data[at : at + CHUNK])

    def end(self):
        """End the source, and read the result until the job has ended."""
        self._socket.send(json.dumps({"end": True}))
        while True:
            message = self._socket.recv(timeout=60)
            if isinstance(message, str) and json.loads(message).get("progress", {}).get("status") == "done":
                return

    def get(self, name):
        with urllib.request.urlopen(urllib.parse.urljoin(self.address, name), timeout=120) as answer:
            return answer.read()

    def refused(self, name):
        with pytest.raises(urllib.error.HTTPError) as caught:
            self.get(name)
        with caught.value as answer:
            return answer.code


@contextmanager
def sending(server):
    with connect(f"ws{server.base[4:]}/api/v2/live", max_size=None, open_timeout=60, ping_interval=None) as socket:
        yield Sending(server, socket)


def followed(live, name, *, on_part=lambda uri: None):
    """Follow a track in a separate thread."""
    player = Player(live.get, name)
    thread = threading.Thread(target=player.follow, args=(on_part,), daemon=True)
    thread.start()
    return player, thread


def test_a_live_job_plays_part_by_part_and_as_a_whole(server, clip, tmp_path):
    data, parts = clip("a.ts", 4, "-c:a", "aac").read_bytes(), queue.SimpleQueue()
    with sending(server) as live:
        video, seeing = followed(live, "video", on_part=parts.put)
        sound, hearing = followed(live, "audio0")
        for second in range(4):
            live.send(data[second * len(data) // 4 : (second + 1) * len(data) // 4])
            while int(parts.get(timeout=120).split("-")[1].split(".")[0]) < 2 * second - 1:
                pass  # they arrive while the rest of the source is withheld
        index = live.get("index.m3u8").decode().splitlines()
        live.end()
        for thread in (seeing, hearing):
            thread.join(120)
            assert not thread.is_alive()
    assert len(video.loads) >= 3 and len(video.parts) >= 20  # at least one request for each part that was waited for
    stream = attributes(next(line for line in index if line.startswith("#EXT-X-STREAM-INF")).partition(":")[2])
    assert (
        stream["CODECS"].startswith("avc1.") and stream["CODECS"].endswith(",mp4a.40.2") and stream["AUDIO"] == "sound"
    )
    assert [report["URI"] for report in video.loads[-2].reports] == ["audio0.m3u8"]
    (tmp_path / "video.mp4").write_bytes(video.file)
    assert referee.size(tmp_path / "video.mp4") == (128, 96) and referee.count(tmp_path / "video.mp4") == 40
    (tmp_path / "sound.mp4").write_bytes(sound.file)

    media.ffmpeg("-i", live.address, "-c", "copy", tmp_path / "played.mkv")
    assert referee.count(tmp_path / "played.mkv") == 40
    source = clip("a.ts", 4, "-c:a", "aac")
    apart = [referee.packets(path)[0] - referee.packets(path, "a:0")[0] for path in (source, tmp_path / "played.mkv")]
    assert apart[1] == pytest.approx(apart[0], abs=2e-3)


def test_what_cannot_be_had_is_refused(server, clip):
    with sending(server) as live:
        other = live.address.replace(live.request_id, live.request_id[::-1])
        live.send(clip("a.ts", 1).read_bytes())
        assert live.refused(other) == live.refused(live.address.replace("/index", "x/index")) == 404
        live.get("index.m3u8")
        for name in ("audio7.m3u8", "video-900.mp4", "video-0.77.mp4", "video-900.0.mp4", "none.mp4", "..%2Fx.m3u8"):
            assert live.refused(name) == 404, name
        assert live.refused("video.m3u8?_HLS_part=1") == live.refused("video.m3u8?_HLS_msn=99") == 400
        assert live.refused("video.m3u8?_HLS_msn=x") == 422
        live.end()
        assert "#EXT-X-ENDLIST" in live.get("video.m3u8?_HLS_msn=99").decode()  # 6.2.5.2: ignored after the end


def test_the_list_of_jobs_names_the_address_while_the_job_runs(server, clip):
    with sending(server) as live:
        assert live.request_id in entry(server, live.request_id)["hls_url"]
        assert entry(server, live.request_id)["hls_url"] == live.address
        live.send(clip("a.ts", 1).read_bytes())
        live.end()
    assert entry(server, live.request_id)["hls_url"] is None


def entry(server, request_id):
    request = urllib.request.Request(f"{server.base}/api/v2/jobs", headers={"Authorization": f"Bearer {KEY}"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return next(job for job in json.load(answer)["data"] if job["request_id"] == request_id)
