"""A gRPC client for tests."""

import queue

import google_crc32c
from grpc_status import rpc_status

from upres.v2 import upscale_pb2 as pb

CONFIG = pb.UpscaleConfig(model="RealESRGAN_Vid_x2", segment_seconds=0.5, preset="ultrafast")


def upload(data, request_id="", config=CONFIG, end=True, size=50_000):
    yield pb.CreateJobRequest(begin=pb.CreateJobRequest.Begin(request_id=request_id, config=config))
    for offset in range(0, len(data), size):
        yield pb.CreateJobRequest(chunk=pb.SourceChunk(offset=offset, data=data[offset : offset + size]))
    if end:
        yield pb.CreateJobRequest(end=True)


def submit(rpc, path):
    return rpc.call(rpc.jobs.CreateJob, upload(path.read_bytes())).job


def watch(rpc, request_id, cursor=0):
    return list(rpc.call(rpc.jobs.WatchJob, pb.WatchJobRequest(request_id=request_id, cursor=cursor)))


def joined(rpc, request_id):
    request = pb.ReadResultRequest(request_id=request_id, file=pb.ReadResultRequest.File())
    return b"".join(answer.chunk.data for answer in rpc.call(rpc.jobs.ReadResult, request))


class Parts:
    """Collects a response stream as a client does: stores init segments, joins fragments, checks their order."""

    def __init__(self):
        self.inits, self.data, self.cursors, self._parts = {}, {}, {}, b""

    def take(self, answer):
        if answer.WhichOneof("kind") == "track":
            self.inits[answer.track.track] = answer.track.init
        elif answer.WhichOneof("kind") == "fragment":
            fragment = answer.fragment
            assert fragment.offset == len(self._parts)
            self._parts += fragment.data
            if len(self._parts) == fragment.size:
                assert google_crc32c.value(self._parts) == fragment.crc32c
                self.data[fragment.track] = self.data.get(fragment.track, b"") + self._parts
                self.cursors[fragment.track] = pb.Cursor(
                    track=fragment.track, segment=fragment.segment, fragment=fragment.fragment
                )
                self._parts = b""

    def file(self, track):
        return self.inits[track] + self.data[track]


def details(error, kind):
    message = kind()
    return [message for detail in rpc_status.from_call(error).details if detail.Unpack(message)]


class Sender:
    """Requests that a test sends one by one."""

    def __init__(self, *first):
        self._queue = queue.Queue()
        for request in first:
            self._queue.put(request)

    def send(self, data, offset=0):
        for start in range(0, len(data), 50_000):
            chunk = pb.SourceChunk(offset=offset + start, data=data[start : start + 50_000])
            self._queue.put(pb.UpscaleRequest(chunk=chunk))

    def end(self):
        self._queue.put(pb.UpscaleRequest(end=True))
        self._queue.put(None)

    def __iter__(self):
        return iter(lambda: self._queue.get(timeout=200), None)
