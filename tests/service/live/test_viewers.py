"""Ten viewers of one live job, over every protocol, that connect and disconnect: one inference, and no viewer slows others."""

import threading
from collections.abc import Callable
from itertools import islice

import media
import pytest
from rpc_calls import Sender
from serving import Rpc, ServerProcess
from viewers import SECONDS, by_grpc, by_hls, by_socket, grpc_call, headers, web_socket

from upres.v2 import upscale_pb2 as pb

FRAMES = 200
UNDER_WAY = 50  # messages, mostly frames of 100 kB, that a socket has read from the ring for a viewer that reads none
VISITS = 2  # visits of each viewer before the one that lasts to the end
NOISE = f"nullsrc=size=160x120:rate=10:duration={FRAMES // 10},geq=random(1)*255:128:128"
CONFIG = pb.UpscaleConfig(model="RealESRGAN_Vid_x2", live=True, segment_seconds=0.5, preset="ultrafast", crf=5)


@pytest.fixture(scope="module")
def noise(tmp_path_factory):
    """Twenty seconds that produce some 20 MB of result, more than any connection buffers without a reader."""
    path = tmp_path_factory.mktemp("noise") / "noise.ts"
    return media.clip(path, "-c:v", "libx264", "-preset", "ultrafast", "-g", 5, picture=NOISE).read_bytes()


@pytest.fixture(scope="module")
def count(tmp_path_factory):
    """A file with a byte for each frame that a model processed."""
    path = tmp_path_factory.mktemp("count") / "frames"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAKE_COUNT", str(path))
        yield path


@pytest.fixture(scope="module")
def server(tmp_path_factory, count):
    state = tmp_path_factory.mktemp("server") / "state"
    with ServerProcess(state, models="fake:counted", live_log_bytes=4 << 20) as process:
        yield process.ready()


class Viewer:
    """Connects and disconnects several times, then stays to the end. seen: fragments received in each visit."""

    def __init__(self, door: Callable, *address) -> None:
        self.seen: list[int] = []
        self.reconnected = threading.Event()
        self._visit = lambda: door(*address)
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()

    def _watch(self) -> None:
        for _ in range(VISITS):
            fragments = (kind for kind in self._visit() if kind == "fragment")
            self.seen.append(len(list(islice(fragments, 1))))
            fragments.close()
        last = self._visit()
        self.seen.append(sum(kind == "fragment" for kind in islice(last, 1)))
        self.reconnected.set()
        self.seen[-1] += sum(kind == "fragment" for kind in last)


def test_ten_viewers_are_one_inference_and_who_takes_nothing_holds_up_nobody(server, noise, count):
    sender, produced = Sender(pb.UpscaleRequest(config=CONFIG)), 0
    sender.send(noise[: len(noise) // 2])
    with Rpc(server.target) as rpc:
        call = rpc.call(rpc.upscale.Upscale, iter(sender))
        request_id = next(call).accepted.request_id
        with grpc_call(server, request_id) as one, web_socket(server, request_id) as two:  # which read nothing now
            answers = iter(call)
            while produced < FRAMES // 4:
                produced += next(answers).WhichOneof("kind") == "fragment"
            doors = [by_grpc, by_socket, by_hls] * 3 + [by_socket]
            viewers = [Viewer(door, server, request_id) for door in doors]
            for viewer in viewers:
                assert viewer.reconnected.wait(SECONDS)
            sender.send(noise[len(noise) // 2 :], len(noise) // 2)
            sender.end()
            last = list(answers)[-1].job
            for viewer in viewers:
                viewer.thread.join(SECONDS)
            slow = [answer.WhichOneof("kind") for answer in one], list(headers(two))
    assert last.status == pb.Job.STATUS_DONE and last.totals.frames_out == FRAMES == count.stat().st_size
    assert all(len(viewer.seen) == VISITS + 1 and min(viewer.seen) > 0 for viewer in viewers)
    assert all("dropped" in messages for messages in slow)
    assert slow[1].index("dropped") < UNDER_WAY  # late on leaving the server means that it was not read in time
