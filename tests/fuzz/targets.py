"""Kinds of mutated inputs for a real server, and checks of its responses: sources, protobufs, HTTP requests."""

import json
import socket
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
import media
from paths import CASES
from serving import KEY, Rpc, ServerProcess

from upres.v2 import upscale_pb2 as pb

CONFIG = pb.UpscaleConfig(model="RealESRGAN_Vid_x2", preset="ultrafast")
SECONDS = 60.0  # time limit of every response
LARGEST_SEED = 20_000
FAULTS = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DATA_LOSS}
EXPECTED = {"SOURCE_UNPROCESSABLE", "SOURCE_INCOMPLETE", "INPUT_TOO_LARGE", "MODEL_LIMIT", "CANCELLED", "INVALID"}


@dataclass(frozen=True)
class Target:
    """A kind of input. send: sends an input and returns the fault, if any. at_once: number of concurrent inputs."""

    name: str
    seeds: Sequence[bytes]
    send: Callable[[bytes], str | None]
    at_once: int = 4


class Log:
    """The server's log, which is searched for errors."""

    def __init__(self, server: ServerProcess) -> None:
        self._server = server
        self._read = 0

    def faults(self) -> Iterator[str]:
        """Yield tracebacks and errors that were logged since the last call."""
        with self._server.log.open("rb") as file:
            file.seek(self._read)
            lines = file.read().splitlines(keepends=True)
        for line in lines:
            if line.endswith(b"\n"):
                self._read += len(line)
                yield from _fault(line.decode(errors="replace"))


def _fault(line: str) -> Iterator[str]:
    try:
        record = json.loads(line)
    except ValueError:  # printed by a library or the interpreter
        record = {"level": "ERROR" if "Traceback" in line or "Fatal" in line else "INFO", "message": line}
    if record.get("exc_info") or record["level"] in ("ERROR", "CRITICAL"):
        yield line.strip()


def sources(server: ServerProcess, folder: Path) -> Target:
    """Return the target of sources: containers of every kind, for jobs that run to their end and are deleted."""
    rpc = Rpc(server.target)

    def send(data: bytes) -> str | None:
        try:
            request_id = rpc.create(data, CONFIG).request_id
            *_, last = rpc.watch(request_id)
            rpc.call(rpc.jobs.DeleteJob, pb.DeleteJobRequest(request_id=request_id))
        except grpc.RpcError as error:
            late = error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
            return f"{error.code()}: {error.details()}" if late or error.code() in FAULTS else None
        reason = last.job.error.reason
        return None if last.event == "done" or reason in EXPECTED else f"{reason}: {last.job.error.message}"

    return Target("sources", [*_clips(folder), *_cases()], send)


def _clips(folder: Path) -> Iterator[bytes]:
    """Yield a small clip in each container."""
    kinds = {
        "a.mp4": "-c:v libx264 -bf 2 -c:a aac", "b.mp4": "-c:v libx264 -c:a aac -movflags frag_keyframe+empty_moov",
        "a.mov": "-c:v mjpeg -c:a pcm_s16le", "a.mkv": "-c:v libx264 -c:a libopus", "b.mkv": "-c:v ffv1 -c:a flac",
        "a.webm": "-c:v libvpx -c:a libvorbis", "a.ts": "-c:v libx264 -c:a ac3", "b.ts": "-c:v mpeg2video -r 25 -c:a mp2",
        "a.avi": "-c:v mpeg4 -c:a libmp3lame", "a.wmv": "-c:v wmv2 -c:a wmav2", "a.flv": "-c:v flv -c:a libmp3lame",
        "a.mpg": "-c:v mpeg1video -r 25 -c:a mp2", "a.ogv": "-c:v libtheora -c:a libvorbis",
        "a.gif": "-an", "a.apng": "-an -plays 0", "a.rm": "-c:v rv10 -c:a ac3",
    }  # fmt: skip
    for name, options in kinds.items():
        sound, picture = "sine=duration=0.4", "testsrc2=size=32x32:rate=10:duration=0.4"
        yield media.clip(folder / name, *options.split(), picture=picture, sound=sound).read_bytes()


def _cases() -> Iterator[bytes]:
    """Return the small sources that failed in the past."""
    return (path.read_bytes() for path in sorted(CASES.rglob("*.*")) if path.stat().st_size <= LARGEST_SEED)


def protobufs(server: ServerProcess, folder: Path) -> Target:
    """Return the target of gRPC messages: the first byte selects the method, the rest is the message."""
    channel = grpc.insecure_channel(server.target)
    metadata = (("authorization", f"Bearer {KEY}"),)
    methods = [m for service in pb.DESCRIPTOR.services_by_name.values() for m in service.methods]
    first = {
        "Upscale": [pb.UpscaleRequest(config=CONFIG), pb.UpscaleRequest(attach=pb.UpscaleRequest.Attach(request_id="x"))],
        "CreateJob": [pb.CreateJobRequest(begin=pb.CreateJobRequest.Begin(request_id=str(uuid.uuid4()), config=CONFIG))],
        "GetJob": [pb.GetJobRequest(request_id=str(uuid.uuid4()))],
        "ListJobs": [pb.ListJobsRequest(page_size=5)],
        "WatchJob": [pb.WatchJobRequest(request_id=str(uuid.uuid4()), cursor=3)],
        "ReadResult": [pb.ReadResultRequest(request_id=str(uuid.uuid4()), file=pb.ReadResultRequest.File())],
    }  # fmt: skip
    seeds = []
    for number, method in enumerate(methods):
        for message in first.get(method.name, [method.input_type._concrete_class()]):
            seeds.append(bytes([number]) + message.SerializeToString())

    def send(data: bytes) -> str | None:
        method = methods[data[0] % len(methods) if data else 0]
        kind = "stream" if method.client_streaming else "unary", "stream" if method.server_streaming else "unary"
        call = getattr(channel, "_".join(kind))(f"/{method.containing_service.full_name}/{method.name}")
        start = time.monotonic()
        try:
            message = iter([data[1:]]) if method.client_streaming else data[1:]
            answer = call(message, metadata=metadata, timeout=SECONDS)
            list(answer) if method.server_streaming else None
        except grpc.RpcError as error:
            late = time.monotonic() - start >= SECONDS
            return f"{method.name}: {error.code()}: {error.details()}" if late or error.code() in FAULTS else None
        return None

    return Target("protobufs", seeds, send)


def requests(server: ServerProcess, folder: Path) -> Target:
    """Return the target of raw HTTP requests."""
    address = ("127.0.0.1", server.settings["http_port"])

    def send(data: bytes) -> str | None:
        try:
            with socket.create_connection(address, SECONDS) as connection:
                connection.sendall(data)
                status = connection.makefile("rb").readline(1 << 16).split()[1:2]
        except TimeoutError:
            return f"no answer and no end within {SECONDS:.0f} s"
        except ConnectionError:
            return None
        return f"answered {status[0].decode()}" if status and status[0] in (b"500", b"502", b"504") else None

    return Target(
        "requests", [*_requests(media.clip(folder / "request.mp4", "-c:v", "libx264").read_bytes())], send, 16
    )


def _requests(clip: bytes) -> Iterator[bytes]:
    """Yield one request of each kind."""
    head = f"Host: 127.0.0.1\r\nAuthorization: Bearer {KEY}\r\nConnection: close\r\n"
    measures = json.dumps({"model": "RealESRGAN_Vid_x4", "width": 640, "height": 360, "duration": 2})
    for path in ("models", "account/balance", f"jobs/{uuid.uuid4()}"):
        yield f"GET /api/v2/{path}?a=%20b HTTP/1.1\r\n{head}\r\n".encode()
    form = f"POST /api/v2/videos/upscales/price HTTP/1.1\r\n{head}Content-Length: {len(measures)}\r\n"
    yield f"{form}Content-Type: application/json\r\n\r\n{measures}".encode()
    upload = (
        b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\nRealESRGAN_Vid_x2\r\n'
        b'--x\r\nContent-Disposition: form-data; name="video"; filename="a.mp4"\r\nContent-Type: video/mp4\r\n\r\n'
        + clip
        + b"\r\n--x--\r\n"
    )
    multipart = f"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: {len(upload)}\r\n\r\n"
    yield f"POST /api/v2/videos/upscales HTTP/1.1\r\n{head}{multipart}".encode() + upload
    auth = "socket_id=1.1&channel_name=private-client.default"
    yield (
        f"POST /broadcasting/auth HTTP/1.1\r\n{head}Content-Type: application/x-www-form-urlencoded\r\n"
        f"Content-Length: {len(auth)}\r\n\r\n{auth}"
    ).encode()
    yield (
        b"GET /app/key?protocol=7 HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
