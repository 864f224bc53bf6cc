"""An hour of a live source, as fast as this machine can: two interruptions, ten viewers that come and go, a drain at the end."""

import io
import json
import signal
import threading
import time
from collections import defaultdict, deque
from itertools import count, islice, pairwise

import av
import media
import numpy as np
import psutil
import pytest
from camera import Camera
from paths import SOAK
from serving import Rpc, ServerProcess
from viewers import SECONDS, by_grpc, by_hls, by_socket

from upres.v2 import upscale_pb2 as pb

pytestmark = pytest.mark.soak
RATE, MINUTES, PIECES = 10, 20, 3
FRAMES = RATE * 60 * MINUTES * PIECES
MARK = 10  # seconds from one flash with a beep to the next
PICTURE = f"color=gray:size=64x48:rate={RATE},geq='lum=if(lt(mod(T,{MARK}),1),235,16+mod(N+X,64))':cb=128:cr=128"
SOUND = f"aevalsrc='if(lt(mod(t,{MARK}),1),sin(2*PI*1000*t),0)':sample_rate=48000"
CONFIG = pb.UpscaleConfig(
    model="RealESRGAN_Vid_x2", live=True, live_source="entrance", segment_seconds=1.0, preset="ultrafast"
)
HOURS = 4 * 3600  # seconds; a limit that no machine needs
KEPT = 60  # last seconds, in which picture and sound are compared
SETTLED, MOST_GROWTH, APART = 0.25, 1.05, 0.04


@pytest.fixture(scope="module")
def piece(tmp_path_factory):
    """Make a clip of twenty minutes whose picture flashes when its sound beeps."""
    path = tmp_path_factory.mktemp("hour") / "in.ts"
    codecs = (
        "-c:v",
        "libx264",
        "-preset",
        "ultrafast",
        "-tune",
        "zerolatency",
        "-g",
        RATE,
        "-c:a",
        "aac",
        "-b:a",
        "64k",
    )
    inputs = ("-f", "lavfi", "-i", PICTURE, "-f", "lavfi", "-i", SOUND)
    media.ffmpeg(*inputs, "-t", 60 * MINUTES, "-pix_fmt", "yuv420p", *codecs, path)
    return path.read_bytes()


class Memory:
    """Unique memory of the server and all its processes, sampled by number of frames made."""

    def __init__(self, process):
        self._process = psutil.Process(process.pid)
        self.looks = []

    def look(self, frames):
        used = 0
        for each in (self._process, *self._process.children(recursive=True)):
            try:
                used += each.memory_full_info().uss
            except psutil.NoSuchProcess:  # it ended just now
                continue
        self.looks.append((frames, used))

    def median(self, start, end):
        return float(np.median([used for frames, used in self.looks if start * FRAMES <= frames < end * FRAMES]))


class Received:
    """The log as it is received: checks that times rise, and keeps the end."""

    def __init__(self):
        self.tracks, self.frames = {}, 0
        self._kept, self._ends, self._parts = defaultdict(deque), {}, b""

    def take(self, answer):
        kind = answer.WhichOneof("kind")
        if kind == "track":
            self.tracks[answer.track.track] = answer.track
        if kind != "fragment":
            return
        fragment = answer.fragment
        self._parts += fragment.data
        if len(self._parts) < fragment.size:
            return
        name, data, self._parts = fragment.track, self._parts, b""
        assert fragment.pts >= self._ends.get(name, fragment.pts), f"{name} goes back"
        self._ends[name] = fragment.pts + fragment.duration
        self.frames += fragment.frames * (name == "video")
        track = self.tracks[name]
        kept, ticks = self._kept[name], KEPT * track.time_base_denominator // track.time_base_numerator
        kept.append((fragment.pts, fragment.independent, data))
        while fragment.pts - kept[0][0] > ticks:
            kept.popleft()

    def opened(self, name):
        """Return what is kept of a track from its first keyframe on, ready to be decoded, and the offset of its times."""
        kept = self._kept[name]
        while not kept[0][1]:
            kept.popleft()
        track = self.tracks[name]
        start = track.start * track.time_base_numerator / track.time_base_denominator
        return av.open(io.BytesIO(track.init + b"".join(data for *_, data in kept))), start


def flashes(received):
    file, start = received.opened("video")
    with file:
        shown = [(frame.time + start, frame.to_ndarray(format="gray").mean() > 180) for frame in file.decode(video=0)]
    return [time for (_, before), (time, now) in pairwise(shown) if now and not before]


def beeps(received):
    file, start = received.opened("audio0")
    times, quiet = [], 0.0
    with file:
        for frame in file.decode(audio=0):
            loud = np.abs(frame.to_ndarray()[0]) > 0.1
            if loud.any():
                at = frame.time + start + int(loud.argmax()) / frame.sample_rate
                times += [at] * (at - quiet > MARK / 2)
                quiet = at
    return times[1:] if times else []


class Viewer:
    """Connects, reads a number of messages, and leaves, until the job ends. visits: how often."""

    def __init__(self, door, server, request_id, messages):
        self.visits, self.error = 0, None
        self._door = lambda: door(server, request_id)
        self._messages = messages
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        try:
            while not self.over.is_set():
                looking = self._door()
                seen = sum(1 for _ in islice(looking, self._messages))
                looking.close()
                self.visits += seen == self._messages
        except Exception as error:
            self.error = error


def started(over):
    """Yield the requests of the client that starts and ends the job."""
    yield pb.UpscaleRequest(config=CONFIG)
    over.wait(HOURS)
    yield pb.UpscaleRequest(end=True)


def test_an_hour_costs_no_memory_and_leaves_picture_and_sound_together(piece, tmp_path):
    begun = time.monotonic()
    with Camera(piece, piece, piece) as camera:
        streams = {"entrance": f"tcp://127.0.0.1:{camera.port}"}
        with ServerProcess(tmp_path / "state", live_sources=streams) as server, Rpc(server.ready().target) as rpc:
            over, received = threading.Event(), Received()
            call = rpc.call(rpc.upscale.Upscale, started(over), timeout=HOURS)
            request_id, memory, looks = next(call).accepted.request_id, Memory(server.process), count(1)
            doors = [by_grpc, by_socket, by_hls] * 3 + [by_grpc]
            viewers, due, draining = [], next(looks), False
            for answer in call:
                received.take(answer)
                if received.frames >= due * FRAMES // 200:
                    memory.look(received.frames)
                    due = next(looks)
                    if not viewers:
                        viewers = [
                            Viewer(door, server, request_id, 10 if door is by_hls else 300 + 100 * n)
                            for n, door in enumerate(doors)
                        ]
                if received.frames >= FRAMES - 20 * RATE and not draining:
                    draining = True
                    for viewer in viewers:
                        viewer.over.set()
                    server.process.send_signal(signal.SIGTERM)
                if (
                    camera.requested.is_set()
                    and received.frames >= FRAMES - 3 * RATE
                    and answer.WhichOneof("kind") == "progress"
                ):
                    over.set()
            last = answer.job
            for viewer in viewers:
                viewer.thread.join(SECONDS)
            status = server.wait()
    record = kept(received, memory, viewers, last, time.monotonic() - begun)
    assert last.status == pb.Job.STATUS_DONE and status == 0
    assert FRAMES - 3 * RATE <= received.frames == last.totals.frames_out
    assert any("2 times" in text for text in record["interruptions"])
    assert record["growth"] < MOST_GROWTH
    assert [viewer.error for viewer in viewers] == [None] * len(viewers) and min(record["visits"]) > 1
    offsets = record["sound_behind_picture_ms"]
    assert len(offsets) >= 3 and all(abs(milliseconds) <= 1000 * APART for milliseconds in offsets)


def kept(received, memory, viewers, last, seconds):
    """Return the figures of the hour as written to the soak results."""
    sounds = beeps(received)
    offsets = [min((beep - flash for beep in sounds), key=abs) for flash in flashes(received)]
    before, after = memory.median(SETTLED, 0.5), memory.median(0.75, 1.0)
    record = {
        "source_seconds": 60 * MINUTES * PIECES,
        "took_seconds": round(seconds),
        "frames": received.frames,
        "interruptions": [text for text in last.warnings if "was interrupted" in text],
        "megabytes": [round(each / 2**20, 1) for each in (before, after)],
        "growth": round(after / before, 4),
        "visits": [viewer.visits for viewer in viewers],
        "sound_behind_picture_ms": [round(1000 * offset, 1) for offset in offsets],
    }
    SOAK.mkdir(exist_ok=True)
    with (SOAK / "live-hour.jsonl").open("a") as file:
        file.write(json.dumps(record) + "\n")
    return record
