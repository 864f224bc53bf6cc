"""A server whose GPU encodes: a live source over a real channel, and the messages to the client."""

import referee
from rpc_calls import Parts, Sender
from serving import Rpc, ServerProcess

from upres.v2 import upscale_pb2 as pb

SLUG = "RealESRGAN_Vid_x2"


def test_a_live_source_is_encoded_by_the_worker_frame_by_frame(tmp_path, clip):
    path, parts = clip("a.ts", 4), Parts()
    sender = Sender(pb.UpscaleRequest(config=pb.UpscaleConfig(live=True, model=SLUG, segment_seconds=0.5)))
    sender.send(path.read_bytes())
    sender.end()
    with ServerProcess(tmp_path / "state", models="fake_gpu:load", nvenc=True, workers=1) as server:
        with Rpc(server.ready().target) as rpc:
            for answer in rpc.call(rpc.upscale.Upscale, iter(sender)):
                parts.take(answer)
        assert "NVENC is available: the GPU encodes 8-bit H.264 and HEVC" in server.log.read_text()
    assert answer.job.totals.frames_out == 40
    (tmp_path / "video.mp4").write_bytes(parts.file("video"))
    assert referee.count(tmp_path / "video.mp4") == 40
