"""Latency of live streams: a clip, small enough for a CPU, is sent at its own rate, and each frame's round trip is measured."""

import io
import re
import statistics
import time
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import in_step
from av import VideoFrame

from upres.engine.decode.reader import Reader
from upres.engine.encode.fragment import boxes
from upres.engine.encode.options import Encoder
from upres.engine.models.registry import load
from upres.engine.pipeline.options import Job
from upres.engine.pipeline.progress import Progress
from upres.engine.pipeline.run import run
from upres.engine.segments.memory import MemoryLog
from upres.service.client import Client
from upres.v2 import upscale_pb2 as pb

WIDTH, HEIGHT, FRAMES = 128, 72, 400
SKIPPED = 150  # first frames to ignore, while the attempt's process starts and catches up
CLUSTER = bytes.fromhex("1f43b675")  # the ID of Matroska's clusters
ENCODER = Encoder(preset="ultrafast", segment_seconds=1.0, fragment="frame", live=True)


class Paced:
    """A source that provides frames when they are due. sent: the time of each."""

    def __init__(self, frames: list[bytes], rate: Fraction) -> None:
        self._frames = frames
        self._rate = rate
        self._start: float | None = None
        self.sent: list[float] = []

    def read(self, size: int = -1, /) -> bytes:
        """Return the next frame when it is due; `size` is ignored."""
        number = len(self.sent)
        if number == len(self._frames):
            return b""
        self._start = self._start or time.perf_counter()
        time.sleep(max(0.0, self.due(number) - time.perf_counter()))
        self.sent.append(time.perf_counter())
        return self._frames[number]

    @property
    def data(self) -> bytes:
        """The complete source."""
        return b"".join(self._frames)

    def due(self, number: int) -> float:
        """Return when a frame is due, after the first has been sent, regardless of delays."""
        assert self._start is not None
        return self._start + float(number / self._rate)


def rows(client: Client, clip: Path, slug: str) -> list[tuple[str, float]]:
    """Measure in milliseconds the engine alone for a frame, and the time from sending a frame to receiving its fragment.

    Measured by container, and while jobs keep the device busy. An MPEG-TS demuxer returns a frame when the next but one starts.
    """
    model, _ = load(slug)
    config = pb.UpscaleConfig(model=slug, live=True, preset=ENCODER.preset, segment_seconds=ENCODER.segment_seconds)
    small, rate = _small(clip, "mp4")
    engine_ms = 1000 * _engine(b"".join(small), model)
    table = [(f"engine alone, a frame of {WIDTH}x{HEIGHT}, ms", engine_ms)]
    for name, container, jobs in (("fragmented MP4", "mp4", 0), ("MPEG-TS", "mpegts", 0), ("beside jobs", "mp4", 6)):
        other_jobs = [client.submit(clip, pb.UpscaleConfig(model=slug)).request_id for _ in range(jobs)]
        delays = sorted(_delays(client, Paced(_small(clip, container)[0], rate), config))
        for request_id in other_jobs:
            client.delete(request_id)
        median, late = (1000 * value for value in (statistics.median(delays), delays[int(len(delays) * 0.95)]))
        table += [(f"live, {name}, median, ms", median), (f"live, {name}, median over engine, ms", median - engine_ms)]
        table += [(f"live, {name}, p95, ms", late), (f"live, {name}, p95 over engine, ms", late - engine_ms)]
    return table


def _delays(client: Client, source: Paced, config: pb.UpscaleConfig) -> Iterator[float]:
    number = 0
    for part in client.stream(source, config):
        if isinstance(part, pb.Fragment) and part.track == "video":
            if number >= SKIPPED:
                yield time.perf_counter() - source.sent[number]
            number += 1


def _engine(data: bytes, model: object) -> float:
    """Sum the busy seconds per frame of all stages."""
    progress = Progress()
    with Reader(io.BytesIO(data), live=True) as reader:
        for _ in run(reader, Job((model,), ENCODER), MemoryLog({}), progress):
            pass
    return sum(progress.seconds.values()) / progress.frames_out


def _small(clip: Path, container: str) -> tuple[list[bytes], Fraction]:
    """Return a small version of the clip, repeated, as the bytes of each frame, and its rate."""
    frames, rate = scaled(clip, WIDTH, HEIGHT)
    return in_pieces((frames[number % len(frames)] for number in range(FRAMES)), rate, container), rate


def scaled(clip: Path, width: int, height: int) -> tuple[list[VideoFrame], Fraction]:
    """Decode a clip to frames of a size; returns them and the rate."""
    with av.open(str(clip)) as source:
        rate = source.streams.video[0].average_rate or Fraction(25)
        return [frame.reformat(width, height, "yuv420p") for frame in source.decode(video=0)], rate


def in_pieces(frames: Iterable[VideoFrame], rate: Fraction, container: str, *, sound: bool = False) -> list[bytes]:
    """Encode frames like a camera; returns the bytes of each, the first with the header. sound: add noise, in MP4 only."""
    file, ends = io.BytesIO(), []
    options = {"flush_packets": "1"}
    if container == "mp4":
        # Not `frag_every_frame`, which starts a fragment at the time of packets that still wait to be interleaved: in the future.
        # A duration of one microsecond, shorter than any packet, ends a fragment just as often.
        options |= {"movflags": "empty_moov+default_base_moof", "frag_duration": "1"}
    if container == "matroska":
        options |= {"live": "1", "cluster_time_limit": "1"}  # one frame per cluster, as browsers record
    with av.open(file, "w", format=container, options=options) as target:
        stream = target.add_stream(
            "libx264", rate=rate, options={"tune": "zerolatency", "preset": "veryfast", "g": "25"}
        )
        noise = in_step.Noise(target) if sound else None
        for number, frame in enumerate(frames):
            if not number:
                stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, "yuv420p"
            frame.pts, frame.time_base = number, 1 / rate
            frame.pict_type = av.video.frame.PictureType.NONE
            target.mux(stream.encode(frame))
            if noise is not None:
                noise.upto((number + 1) / rate)
            ends.append(file.tell())
        target.mux(stream.encode(None))
        if noise is not None:
            noise.end()
    data = file.getvalue()
    if container == "mp4":  # its muxer writes a frame when the next one arrives
        ends = _fragments(data)
    if container == "matroska":  # so does this one
        ends = [*[match.start() for match in re.finditer(re.escape(CLUSTER), data)][1:], len(data)]
    return [data[start:end] for start, end in zip([0, *ends], [*ends[:-1], len(data)], strict=False)]


def _fragments(data: bytes) -> list[int]:
    """Return the end of each MP4 fragment that has a frame; fragments with sound only are attached to the next one."""
    ends, at, shown = [], 0, False
    for kind, box in boxes(data):
        at += len(box)
        if kind == b"moof":
            shown = in_step.shows_picture(box)
        if kind == b"mdat" and shown:
            ends.append(at)
    return ends
