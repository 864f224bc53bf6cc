"""Logs made by one device and by several, for comparison."""

import json
from functools import partial
from pathlib import Path

import av
import media
from fake import Nearest, job

from upres.engine.decode.cut import Cut
from upres.engine.decode.reader import Reader
from upres.engine.encode.options import Encoder
from upres.engine.pipeline.options import fitted
from upres.engine.pipeline.progress import Progress
from upres.engine.pipeline.run import run
from upres.engine.ranges.run import run_on
from upres.engine.segments.folder import FolderLog

GOPS = ("-c:v", "libx264", "-g", "8", "-bf", "3", "-x264-params", "scenecut=0")
PICTURE = "testsrc2=size=64x48:rate=10:duration=4"
QUICK = Encoder(segment_seconds=0.5, preset="ultrafast")


def content(log):
    """Return everything in a log except the order in which its tracks started."""
    fragments = {name: log.fragments(name) for name in log.tracks}
    bodies = {name: [log.read(fragment) for fragment in fragments[name]] for name in fragments}
    return log.header, log.tracks, log.extras, fragments, bodies


def processed(clip, folder, *companions, model=None, tick=lambda: None, **settings):
    """The content of the log that a job and its companions produce, and the job's outcome."""
    progress = Progress()
    with Reader(clip, cut=settings.get("cut", Cut()), eight_bits=None) as reader:
        adjusted = fitted(job(Path("out.mkv"), model or Nearest(), **{"encoder": QUICK, **settings}), reader)
        log = FolderLog(folder, adjusted.settings())
        try:
            how = partial(run_on, companions) if companions else run
            for _ in how(reader, adjusted, log, progress, tick):
                pass
            return content(log), progress
        finally:
            log.close()


def ranges(folder):
    """Return the number of ranges the job was planned into."""
    return len(json.loads((folder / "ranges" / "plan.json").read_bytes())["spans"])


def damaged(path, number, *args):
    """Make a clip, H.264 by default, whose keyframe of this number ends in zeros, which the container does not reveal."""
    whole, seen = media.clip(path.with_suffix(".mp4"), *(args or GOPS), picture=PICTURE), 0
    with av.open(str(whole)) as source, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux():
            if packet.dts is None:
                continue
            if packet.is_keyframe and (seen := seen + 1) == number:
                data, of = bytes(packet), packet
                packet = av.Packet(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))
                packet.pts, packet.dts, packet.duration, packet.time_base = of.pts, of.dts, of.duration, of.time_base
                packet.is_keyframe = True
            packet.stream = stream
            target.mux(packet)
    return path
