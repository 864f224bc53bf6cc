"""An independent client: gRPC and the generated stubs, nothing else. `stranger.py HOST:PORT KEY IN` prints the result as JSON."""

import json
import sys
from pathlib import Path

import google_crc32c
import grpc

from upres.v2 import upscale_pb2 as pb
from upres.v2 import upscale_pb2_grpc as stubs

CHUNK = 1 << 16


def requests(data):
    yield pb.UpscaleRequest(config=pb.UpscaleConfig(model="RealESRGAN_Vid_x2"))
    for offset in range(0, len(data), CHUNK):
        yield pb.UpscaleRequest(chunk=pb.SourceChunk(offset=offset, data=data[offset : offset + CHUNK]))
    yield pb.UpscaleRequest(end=True)


def upscale(target, key, data):
    fragments, frames, part, status = 0, 0, b"", 0
    with grpc.insecure_channel(target) as channel:
        metadata = (("authorization", f"Bearer {key}"),)
        for answer in stubs.UpscaleServiceStub(channel).Upscale(requests(data), metadata=metadata, timeout=120):
            status = answer.job.status
            part += answer.fragment.data
            if part and len(part) == answer.fragment.size:
                assert google_crc32c.value(part) == answer.fragment.crc32c, "a fragment was damaged on its way"
                frames += answer.fragment.frames if answer.fragment.track == "video" else 0
                fragments, part = fragments + 1, b""
    return {"fragments": fragments, "frames": frames, "done": status == pb.Job.STATUS_DONE}


if __name__ == "__main__":
    print(json.dumps(upscale(*sys.argv[1:3], Path(sys.argv[3]).read_bytes())))  # noqa: T201 - a script
