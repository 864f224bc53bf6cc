"""How many frames an upscale gives, from what a source holds rather than from the rate that it declares."""

import math
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import av

from upres.engine.decode.reader import Reader

from .options import Job, after_prefilters

SAMPLE = 250  # packets that the rate is measured on
TRUSTED = 1.5  # times the measured rate that a declared one may be off: rates vary over a clip, and a sample is short


@dataclass(frozen=True, slots=True)
class Sample:
    """The first frames of a file. rate: frames a second, None for a single one. whole: whether there are no others."""

    frames: int
    rate: float | None
    whole: bool


def count_frames(reader: Reader, job: Job) -> int | None:
    """Count the frames that come out, about; None where the source does not say how long it is."""
    info, cut = reader.info, job.cut
    doubled = int(after_prefilters(info.shape, job.prefilters).rate / info.shape.rate)
    if info.seconds is None:
        return info.frames and info.frames * doubled
    sample = _sample(reader)
    if sample is not None and sample.whole and not cut.start and cut.duration is None:
        return sample.frames * doubled
    declared = info.frames / info.seconds if info.frames and info.seconds else float(info.shape.rate)
    rate = declared if sample is None or sample.rate is None or _agree(declared, sample.rate) else sample.rate
    left = max(0.0, info.seconds - float(cut.start))
    seconds = left if cut.duration is None else min(left, float(cut.duration))
    frames = max(1, math.ceil(round(seconds * rate, 6)))
    return doubled * (min(frames, sample.frames) if sample is not None and sample.whole else frames)


def _agree(declared: float, measured: float) -> bool:
    return 1 / TRUSTED < declared / measured < TRUSTED


def _sample(reader: Reader) -> Sample | None:
    """Read the first packets of a file again; None for what can be read only once."""
    if not isinstance(reader.source, str | Path):
        return None
    try:
        with av.open(str(Path(reader.source).absolute())) as container:
            video = container.streams[reader.video.index]
            packets = (
                packet for packet in container.demux(video) if packet.size
            )  # an empty one shows the last frame longer
            stamps = [packet.pts if packet.dts is None else packet.dts for packet in islice(packets, SAMPLE)]
            time_base = video.time_base
    except (av.FFmpegError, OSError, IndexError):
        return None
    known = [stamp for stamp in stamps if stamp is not None]
    span = float((max(known) - min(known)) * time_base) if known and time_base else 0.0
    return Sample(len(stamps), (len(known) - 1) / span if span > 0 else None, len(stamps) < SAMPLE)
