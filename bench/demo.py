"""`make demo`: start a server, stream a clip through gRPC while half of it is withheld, join the result, and report times."""

import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import IO

import av
import grpc

from upres.service.client import Client
from upres.service.client.assembly import Assembly
from upres.v2 import upscale_pb2 as pb

KEY = "upres_demo_key_of_some_length"
PORTS = {"UPRES_HTTP_PORT": "18280", "UPRES_GRPC_PORT": "18281"}
WAIT_SECONDS = 600


class Withheld:
    """A file whose second half cannot be read before `free` is set."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file = file
        self._half = size // 2
        self.free = threading.Event()

    def read(self, size: int) -> bytes:
        """Read at most `size` bytes of the part that may be read."""
        remaining = self._half - self._file.tell()
        if remaining <= 0:
            self.free.wait(WAIT_SECONDS)
            return self._file.read(size)
        return self._file.read(min(size, remaining))


def main() -> None:
    """Run the demo: python bench/demo.py SOURCE TARGET [MODEL]."""
    source, target = Path(sys.argv[1]), Path(sys.argv[2])
    slug = (sys.argv[3:] or ["RealESRGAN_Vid_x2"])[0]
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as state:
        streamable = Path(state) / "source.mp4"
        write_fragmented(source, streamable)
        environment = {**os.environ, **PORTS, "UPRES_STATE": f"{state}/server", "UPRES_API_KEY": KEY}
        serve = [sys.executable, "-c", "from upres.service.cli.main import main; main()", "serve"]
        server = subprocess.Popen(serve, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            stream(streamable, target, slug)
        finally:
            server.terminate()
            server.wait(60)


def write_fragmented(source: Path, target: Path) -> None:
    """Copy the packets to a fragmented MP4, which can be decoded while it arrives."""
    options = {"movflags": "frag_keyframe+empty_moov"}
    with av.open(str(source)) as reading, av.open(str(target), "w", options=options) as writing:
        streams = {
            s.index: writing.add_stream_from_template(s) for s in (*reading.streams.video, *reading.streams.audio)
        }
        for packet in reading.demux(*(reading.streams[index] for index in streams)):
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                writing.mux(packet)


def stream(source: Path, target: Path, slug: str) -> None:
    """Stream a clip, join the result, and report when the first fragment arrived."""
    size, start, count = source.stat().st_size, time.perf_counter(), 0
    config = pb.UpscaleConfig(model=slug, segment_seconds=0.5)
    server = f"127.0.0.1:{PORTS['UPRES_GRPC_PORT']}"
    with grpc.insecure_channel(server) as channel:
        grpc.channel_ready_future(channel).result(WAIT_SECONDS)
    with Client(server, KEY) as client, Assembly(target) as assembly, source.open("rb") as file:
        withheld = Withheld(file, size)
        for part in client.stream(withheld, config):
            if isinstance(part, pb.TrackInit):
                assembly.add_track(part)
            elif isinstance(part, pb.Fragment):
                count += 1
                assembly.append(part)
                if part.track == "video" and not withheld.free.is_set():
                    seconds = time.perf_counter() - start
                    print_line(
                        f"first fragment after {seconds:.1f} s, while {size - size // 2} of {size} bytes were withheld"
                    )
                    withheld.free.set()
            elif isinstance(part, pb.Job) and part.status != pb.Job.STATUS_DONE:
                raise SystemExit(part.error.message)
        assembly.join()
    print_line(
        f"{part.totals.frames_out} frames in {count} fragments, joined into {target}: {time.perf_counter() - start:.1f} s"
    )


def print_line(text: str) -> None:
    """Print a line."""
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    main()
