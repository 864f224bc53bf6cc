"""Ways through which `latency` sends a live source, each with what comes out of it and when: DOORS, by their names."""

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
from upres.engine.pipeline.keep_up import MOST_LATE
from upres.service.api.http.hls.playlist import BACK
from upres.service.api.http.hls.rendition import PART_SECONDS
from upres.v2 import upscale_pb2 as pb

SLUG = "RealESRGAN_Vid_x2"
START = {"model": SLUG, "content": "live", "when_slow": "drop", "preset": live.ENCODER.preset, "segment_seconds": 1.0}
END_SECONDS = 300  # for a run to end after its source
SRT_SECONDS = 0.12  # that SRT holds everything back to send again what is lost, as libsrt has it by default
SENT_SECONDS = 3.0  # for the last frames of an address to arrive
CAMERA = Path(__file__).parent.parent / "tests" / "support" / "gst_camera.py"
# Without `config-interval`: x264 has parameter sets before each key frame; more of them, before each of its slices, would split it.
LAUNCH = (
    "appsrc name=in is-live=true format=time do-timestamp=true caps=video/x-h264,stream-format=byte-stream,alignment=au "
    "! h264parse ! rtph264pay name=pay0 pt=96"
)
RECEIVED = ("-map", "0", "-c", "copy", "-flush_packets", "1", "-f", "data", "-")
TS_PACKET, TS_PAYLOAD = 188, 184


class Came:
    """A file as it came: its bytes, how many there were after each piece, and when that was.

    share: bytes of it to one of a frame.
    sound: the file of it where it is another one. starts: seconds to add to the times of picture and sound then.
    """

    def __init__(self) -> None:
        self.data = bytearray()
        self.sound = bytearray()
        self.share = 1.0
        self.starts: dict[str, float] = {}
        self.ends: list[int] = []
        self.times: list[float] = []

    def add(self, piece: bytes) -> None:
        """Take a piece, now."""
        self.data += piece
        self.ends.append(len(self.data))
        self.times.append(time.perf_counter())

    def begin(self, track: str, header: bytes, start: float) -> None:
        """Take the header of a track that comes apart from the others."""
        self.starts[track] = start
        (self.data if track == "video" else self.sound).extend(header)

    def take(self, track: str, piece: bytes) -> None:
        """Take a piece of such a track, now."""
        if track == "video":
            self.add(piece)
        else:
            self.sound += piece

    def read(self, pipe: IO[bytes]) -> None:
        """Take what comes to the end."""
        while piece := pipe.read1(1 << 20):  # type: ignore[attr-defined]  # a pipe is buffered
            self.add(piece)


class Door(NamedTuple):
    """container: of the source. send: returns what came. late: what may be added to a frame's own inference.

    intervals: of the source's frames. seconds: of what the way itself takes.
    """

    container: str
    send: Callable[[Serving, live.Paced], Came]
    intervals: float = MOST_LATE
    seconds: float = 0.0

    def most_intervals(self, rate: float) -> float:
        """Return the most intervals of frames that one may come later than its own inference has it. rate: a second."""
        return self.intervals + self.seconds * rate


def by_command(_: Serving, paced: live.Paced) -> Came:
    """Send through `upres live - --to -`."""
    came, command = Came(), [*UPRES, "live", "-", "--to", "-"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdin is not None and process.stdout is not None
        sending = _sending(paced, process.stdin.write, process.stdin.flush, process.stdin.close)
        came.read(process.stdout)
        if process.wait(END_SECONDS):
            raise SystemExit(f"upres live ended with status {process.returncode}")
        sending.join()
    return came


def by_grpc(server: Serving, paced: live.Paced) -> Came:
    """Send through a server's stream, which leaves out what is late."""
    config = pb.UpscaleConfig(
        model=SLUG, content="live", live=True, when_slow=pb.WHEN_SLOW_DROP, preset=live.ENCODER.preset
    )
    came = Came()
    for part in server.client.stream(paced, config):
        if isinstance(part, pb.TrackInit):
            start = part.start * part.time_base_numerator / part.time_base_denominator
            came.begin(part.track, part.init, start)
        elif isinstance(part, pb.Fragment):
            came.take(part.track, part.data)
    return came


def by_socket(server: Serving, paced: live.Paced) -> Came:
    """Send and receive through the WebSocket, as the page does."""
    came = Came()
    with _started(server, paced) as (socket_, _):
        header: dict[str, Any] = {}
        while (message := _received(socket_)) is not None:
            if isinstance(message, str):
                header = json.loads(message)
            elif track := header.get("track"):
                came.begin(track["name"], message, track["start_seconds"])
            else:
                came.take(header["fragment"]["track"], message)
    return came


def by_hls(server: Serving, paced: live.Paced) -> Came:
    """Send through the WebSocket, receive as a player of LL-HLS: by blocking reloads, a part as soon as it is listed."""
    came = Came()
    with _started(server, paced) as (socket_, path):
        threading.Thread(target=lambda: [*iter(lambda: _received(socket_), None)], daemon=True).start()
        address = urljoin(server.base, path)
        names = re.findall(r'URI="(.*?)\.m3u8"', _get(address).decode())[:1]
        listening = [threading.Thread(target=_play, args=(address, name, came)) for name in names]
        for thread in listening:
            thread.start()
        _play(address, "video", came)
        for thread in listening:
            thread.join()
    return came


def _play(address: str, name: str, came: Came) -> None:
    """Fetch a track of LL-HLS to its end."""
    seen = set[str]()
    came.begin(name, _get(urljoin(address, f"{name}-init.mp4")), 0.0)
    playlist = _get(urljoin(address, f"{name}.m3u8")).decode()
    while True:
        parts = re.findall(r'#EXT-X-PART:.*URI="(.*?)"', playlist)
        for part in (part for part in parts if part not in seen):
            seen.add(part)
            came.take(name, _get(urljoin(address, part)))
        if not (hint := re.search(r"PRELOAD-HINT:.*-(\d+)\.(\d+)\.mp4", playlist)):
            return
        playlist = _get(urljoin(address, f"{name}.m3u8?_HLS_msn={hint[1]}&_HLS_part={hint[2]}")).decode()


def by_rtsp(_: Serving, paced: live.Paced) -> Came:
    """Send through GStreamer's RTSP server, `upres live` and SRT, as a camera and a player of others would."""
    ports, came, program = _free_ports(), Came(), shutil.which("ffmpeg")
    came.share = TS_PACKET / TS_PAYLOAD
    srt, rtsp = f"srt://127.0.0.1:{ports[0]}", f"rtsp://127.0.0.1:{ports[1]}/camera"
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    # As bytes, for what counts is when they are here; a demuxer gives a frame of MPEG-TS when the next one or two have come.
    receiving = [str(program), "-v", "error", "-f", "data", "-i", f"{srt}?mode=listener", *RECEIVED]
    with (
        subprocess.Popen(["/usr/bin/python3", CAMERA, str(ports[1]), LAUNCH], **pipes) as camera,
        subprocess.Popen(
            receiving, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as receiver,
    ):
        assert camera.stdin is not None and camera.stdout is not None and receiver.stdout is not None
        camera.stdout.readline()  # it answers from now on
        with subprocess.Popen([*UPRES, "live", rtsp, "--to", srt], stderr=subprocess.PIPE) as process:

            def send() -> None:
                camera.stdout.readline()  # type: ignore[union-attr]  # somebody watches: what came before would be lost
                while piece := paced.read():
                    camera.stdin.write(len(piece).to_bytes(4, "big") + piece)  # type: ignore[union-attr]
                    camera.stdin.flush()  # type: ignore[union-attr]
                time.sleep(SENT_SECONDS)
                process.send_signal(signal.SIGINT)

            def end() -> None:
                said.append(process.communicate()[1])
                time.sleep(SENT_SECONDS)
                receiver.terminate()  # which waits on where nobody has sent anything
                camera.kill()

            said = list[bytes]()
            for work in (send, end):
                threading.Thread(target=work, daemon=True).start()
            came.read(receiver.stdout)
    if not came.ends:
        raise SystemExit(
            f"nothing came of upres live from RTSP to SRT: {said[0].decode() if said else 'it still runs'}"
        )
    return came


DOORS = {
    "upres live": Door("mp4", by_command),
    "gRPC": Door("mp4", by_grpc),
    "WebSocket": Door("mp4", by_socket),
    "LL-HLS": Door("mp4", by_hls, 0, BACK * PART_SECONDS),
    "RTSP to SRT": Door("h264", by_rtsp, seconds=SRT_SECONDS),
}


@contextmanager
def _started(server: Serving, paced: live.Paced) -> Iterator[tuple[ClientConnection, str]]:
    """Start a live job and send its source; gives its socket, and where its playlist is."""
    address = f"ws{server.base[4:]}/api/v2/live"
    with connect(address, max_size=None, ping_interval=None, compression=None) as opened:
        opened.send(json.dumps({"key": KEY, "start": START}))
        accepted = json.loads(opened.recv())["accepted"]
        sending = _sending(paced, opened.send, lambda: None, lambda: opened.send(json.dumps({"end": True})))
        yield opened, accepted["hls"]
        sending.join()


def _received(opened: ClientConnection) -> str | bytes | None:
    """Return the next message; None behind the last."""
    try:
        return opened.recv(timeout=END_SECONDS)
    except ConnectionClosed:
        return None


def _sending(
    paced: live.Paced, write: Callable[[bytes], Any], flush: Callable[[], Any], close: Callable[[], Any]
) -> threading.Thread:
    """Send frames when they are due, in a thread."""

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
    """Return two ports that are free: of UDP, and of TCP."""
    with socket.socket(type=socket.SOCK_DGRAM) as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        return one.getsockname()[1], two.getsockname()[1]
