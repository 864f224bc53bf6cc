"""The interfaces through which `latency` sends a live source, and recording of their results with arrival times: DOORS, by name."""

import json
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple
from urllib.parse import urljoin
from urllib.request import urlopen

import live
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from service import KEY, UPRES, Serving
from upres.engine.pipeline.keep_up import MAX_LATE_INTERVALS
from upres.service.api.http.hls.playlist import BACK
from upres.service.api.http.hls.rendition import PART_SECONDS
from upres.v2 import upscale_pb2 as pb

SLUG = "RealESRGAN_Vid_x2"
START = {"model": SLUG, "content": "live", "when_slow": "drop", "preset": live.ENCODER.preset, "segment_seconds": 1.0}
END_SECONDS = 300  # timeout for a run to end after its source
SRT_SECONDS = 0.12  # SRT's receiver delay for retransmissions, libsrt's default
SENT_SECONDS = 3.0  # time for the last frames to arrive
CAMERA = Path(__file__).parent.parent / "tests" / "support" / "gst_camera.py"
# Without `config-interval`: x264 already writes parameter sets before each keyframe; more, before each slice, would split it.
LAUNCH = (
    "appsrc name=in is-live=true format=time do-timestamp=true caps=video/x-h264,stream-format=byte-stream,alignment=au "
    "! h264parse ! rtph264pay name=pay0 pt=96"
)
RECEIVED = ("-map", "0", "-c", "copy", "-flush_packets", "1", "-f", "data", "-")
TS_PACKET, TS_PAYLOAD = 188, 184


class Recording:
    """A file with its arrival times: its bytes, and the total size and the time after each piece.

    share: bytes of the file per byte of a frame. sound: the file of the sound, if separate. starts: seconds to add to the
    timestamps of picture and sound in that case.
    """

    def __init__(self) -> None:
        self.data = bytearray()
        self.sound = bytearray()
        self.share = 1.0
        self.starts: dict[str, float] = {}
        self.ends: list[int] = []
        self.times: list[float] = []

    def add(self, piece: bytes) -> None:
        """Append a piece that has just arrived."""
        self.data += piece
        self.ends.append(len(self.data))
        self.times.append(time.perf_counter())

    def begin(self, track: str, header: bytes, start: float) -> None:
        """Add the header of a track that is received separately."""
        self.starts[track] = start
        (self.data if track == "video" else self.sound).extend(header)

    def add_to(self, track: str, piece: bytes) -> None:
        """Append a piece of a separate track that has just arrived."""
        if track == "video":
            self.add(piece)
        else:
            self.sound += piece

    def read(self, pipe: IO[bytes]) -> None:
        """Read a pipe to its end."""
        while piece := pipe.read1(1 << 20):  # type: ignore[attr-defined]  # a pipe is buffered
            self.add(piece)


class Door(NamedTuple):
    """An interface. container: of the source. send: sends a source and returns the result. The rest is the allowed added latency.

    intervals: in frame intervals of the source. seconds: the delay of the interface itself. held: frames that it holds back.
    """

    container: str
    send: Callable[[Serving, live.Paced], Recording]
    intervals: float = MAX_LATE_INTERVALS
    seconds: float = 0.0
    held: int = 0

    def most_intervals(self, rate: float) -> float:
        """Return the allowed latency of a frame beyond its inference, in frame intervals. rate: frames per second."""
        return self.intervals + self.held + self.seconds * rate


def by_command(_: Serving, paced: live.Paced) -> Recording:
    """Send through `upres live - --to -`."""
    recording, command = Recording(), [*UPRES, "live", "-", "--to", "-"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdin is not None and process.stdout is not None
        sending = _sending(paced, process.stdin.write, process.stdin.flush, process.stdin.close)
        recording.read(process.stdout)
        if process.wait(END_SECONDS):
            raise SystemExit(f"upres live ended with status {process.returncode}")
        sending.join()
    return recording


def by_grpc(server: Serving, paced: live.Paced) -> Recording:
    """Send through a server's gRPC stream, which drops late frames."""
    config = pb.UpscaleConfig(
        model=SLUG, content="live", live=True, when_slow=pb.WHEN_SLOW_DROP, preset=live.ENCODER.preset
    )
    recording = Recording()
    for part in server.client.stream(paced, config):
        if isinstance(part, pb.TrackInit):
            start = part.start * part.time_base_numerator / part.time_base_denominator
            recording.begin(part.track, part.init, start)
        elif isinstance(part, pb.Fragment):
            recording.add_to(part.track, part.data)
    return recording


def by_socket(server: Serving, paced: live.Paced) -> Recording:
    """Send and receive through the WebSocket, as the page does."""
    recording = Recording()
    with _started(server, paced) as (socket_, _):
        header: dict[str, Any] = {}
        while (message := _received(socket_)) is not None:
            if isinstance(message, str):
                header = json.loads(message)
            elif track := header.get("track"):
                recording.begin(track["name"], message, track["start_seconds"])
            else:
                recording.add_to(header["fragment"]["track"], message)
    return recording


def by_hls(server: Serving, paced: live.Paced) -> Recording:
    """Send through the WebSocket, and receive like an LL-HLS player: with blocking reloads, each part as soon as it is listed."""
    recording = Recording()
    with _started(server, paced) as (socket_, path):
        threading.Thread(target=lambda: [*iter(lambda: _received(socket_), None)], daemon=True).start()
        address = urljoin(server.base, path)
        names = re.findall(r'URI="(.*?)\.m3u8"', _get(address).decode())[:1]
        sound_threads = [threading.Thread(target=_play, args=(address, name, recording)) for name in names]
        for thread in sound_threads:
            thread.start()
        _play(address, "video", recording)
        for thread in sound_threads:
            thread.join()
    return recording


def _play(address: str, name: str, recording: Recording) -> None:
    """Download an LL-HLS track to its end."""
    seen = set[str]()
    recording.begin(name, _get(urljoin(address, f"{name}-init.mp4")), 0.0)
    playlist = _get(urljoin(address, f"{name}.m3u8")).decode()
    while True:
        parts = re.findall(r'#EXT-X-PART:.*URI="(.*?)"', playlist)
        for part in (part for part in parts if part not in seen):
            seen.add(part)
            recording.add_to(name, _get(urljoin(address, part)))
        if not (hint := re.search(r"PRELOAD-HINT:.*-(\d+)\.(\d+)\.mp4", playlist)):
            return
        playlist = _get(urljoin(address, f"{name}.m3u8?_HLS_msn={hint[1]}&_HLS_part={hint[2]}")).decode()


def by_rtsp(_: Serving, paced: live.Paced) -> Recording:
    """Send through GStreamer's RTSP server, `upres live` and SRT, like a third-party camera and player."""
    ports, recording, program = _free_ports(), Recording(), shutil.which("ffmpeg")
    recording.share = TS_PACKET / TS_PAYLOAD
    srt, rtsp = f"srt://127.0.0.1:{ports[0]}", f"rtsp://127.0.0.1:{ports[1]}/camera"
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    # Received as bytes, to record their arrival; a demuxer returns a frame of MPEG-TS only after one or two more have arrived.
    receiving = [str(program), "-v", "error", "-f", "data", "-i", f"{srt}?mode=listener", *RECEIVED]
    with (
        subprocess.Popen(["/usr/bin/python3", CAMERA, str(ports[1]), LAUNCH], **pipes) as camera,
        subprocess.Popen(
            receiving, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as receiver,
    ):
        assert camera.stdin is not None and camera.stdout is not None and receiver.stdout is not None
        camera.stdout.readline()  # the server accepts connections from now on
        with subprocess.Popen([*UPRES, "live", rtsp, "--to", srt], stderr=subprocess.PIPE) as process:

            def send() -> None:
                camera.stdout.readline()  # type: ignore[union-attr]  # a client is connected: earlier frames would be lost
                while piece := paced.read():
                    camera.stdin.write(len(piece).to_bytes(4, "big") + piece)  # type: ignore[union-attr]
                    camera.stdin.flush()  # type: ignore[union-attr]
                time.sleep(SENT_SECONDS)
                process.send_signal(signal.SIGINT)

            def end() -> None:
                logs.append(process.communicate()[1])
                time.sleep(SENT_SECONDS)
                receiver.terminate()  # it would wait indefinitely if nothing was sent
                camera.kill()

            logs = list[bytes]()
            for work in (send, end):
                threading.Thread(target=work, daemon=True).start()
            recording.read(receiver.stdout)
    if not recording.ends:
        raise SystemExit(
            f"nothing was received from upres live over SRT: {logs[0].decode() if logs else 'it is still running'}"
        )
    return recording


DOORS = {
    "upres live": Door("mp4", by_command),
    "gRPC": Door("mp4", by_grpc),
    "WebSocket": Door("mp4", by_socket),
    "WebSocket, Matroska": Door("matroska", by_socket),  # WebM is Matroska with other codecs
    "LL-HLS": Door("mp4", by_hls, 0, BACK * PART_SECONDS),
    # FFmpeg returns a frame of RTSP only when the next one begins, because nothing in its packets marks the end (docs/live.md).
    # The limit counts from the moment when the source delivers a frame, which is one interval after it was sent.
    "RTSP to SRT": Door("h264", by_rtsp, seconds=SRT_SECONDS, held=1),
}


@contextmanager
def _started(server: Serving, paced: live.Paced) -> Iterator[tuple[ClientConnection, str]]:
    """Start a live job and send its source; yields its socket, and the path of its playlist."""
    address = f"ws{server.base[4:]}/api/v2/live"
    with connect(address, max_size=None, ping_interval=None, compression=None) as opened:
        opened.send(json.dumps({"key": KEY, "start": START}))
        accepted = json.loads(opened.recv())["accepted"]
        sending = _sending(paced, opened.send, lambda: None, lambda: opened.send(json.dumps({"end": True})))
        yield opened, accepted["hls"]
        sending.join()


def _received(opened: ClientConnection) -> str | bytes | None:
    """Return the next message; None after the last."""
    try:
        return opened.recv(timeout=END_SECONDS)
    except ConnectionClosed:
        return None


def _sending(
    paced: live.Paced, write: Callable[[bytes], Any], flush: Callable[[], Any], close: Callable[[], Any]
) -> threading.Thread:
    """Start a thread that sends frames when they are due."""

    def send() -> None:
        while piece := paced.read():
            write(piece)
            flush()
        close()

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    return thread


def _get(address: str) -> bytes:
    with urlopen(address, timeout=END_SECONDS) as answer:
        data: bytes = answer.read()
    return data


def _free_ports() -> tuple[int, int]:
    """Return a free UDP port and a free TCP port."""
    with socket.socket(type=socket.SOCK_DGRAM) as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        return one.getsockname()[1], two.getsockname()[1]
