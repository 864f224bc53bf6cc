"""In-process runs of `upres live`, their source clip, and programs that receive their output."""

import socket
import subprocess
from contextlib import contextmanager, suppress

import av
import media
import psutil
from fake import Nearest
from imageio_ffmpeg import get_ffmpeg_exe
from paths import SAMPLE

from upres.engine.encode.options import Encoder
from upres.engine.live.destination import destination
from upres.engine.live.session import LiveRun, open_live
from upres.engine.pipeline.options import Job
from upres.engine.pipeline.progress import Progress

FRAMES = 25


def clip(folder):
    """Return one second of the sample clip with sound."""
    path = folder / "in.ts"
    media.ffmpeg("-i", SAMPLE, "-t", "1", "-vf", "scale=160:90", "-c:v", "libx264", "-c:a", "aac", path)
    return path


def run(source, *places, encoder=None):
    progress, running = Progress(), LiveRun([destination(str(place)) for place in places])
    encoder = encoder or Encoder(preset="ultrafast", fragment="frame", live=True, segment_seconds=0.4)
    with open_live(str(source)) as reader:
        running.run(reader, Job((Nearest(),), encoder, streamed=True), progress)
    return running, progress


def packets(path):
    """Count the video and audio packets of a file."""
    with av.open(str(path)) as file:
        counts = {"video": 0, "audio": 0}
        for packet in file.demux():
            counts[packet.stream.type] += packet.size > 0
        return counts["video"], counts["audio"]


@contextmanager
def ffmpeg(port, *words, program=None):
    """Yield once ffmpeg listens on a port; it exits by itself."""
    process = subprocess.Popen([program or get_ffmpeg_exe(), "-v", "error", "-y", *map(str, words)])
    try:
        for _ in range(600):
            if any(each.laddr.port == port for each in psutil.Process(process.pid).net_connections()):
                break
            with suppress(subprocess.TimeoutExpired):
                raise AssertionError(f"it ended with {process.wait(0.05)} before it listened")
        yield process
    finally:
        process.kill()
        process.wait()


def free_port(kind=socket.SOCK_STREAM):
    with socket.socket(type=kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
