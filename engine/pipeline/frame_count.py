"""Number of frames that an upscale yields, computed from the duration of the source."""

import math

from upres.engine.decode.info import Info
from upres.engine.decode.reader import Reader

from .options import Job, after_prefilters

# Maximum ratio of counted to nominal frame rate that is plausible: AVI counts ticks, most of which may be empty.
MAX_RATE_RATIO = 1.5


def count_frames(reader: Reader, job: Job) -> int | None:
    """Return the approximate number of output frames; None if the duration of the source is unknown."""
    info, cut = reader.info, job.cut
    doubled = int(after_prefilters(info.shape, job.prefilters).rate / info.shape.rate)
    if info.seconds is None:
        return info.frames and info.frames * doubled
    remaining = max(0.0, info.seconds - float(cut.start))
    seconds = remaining if cut.duration is None else min(remaining, float(cut.duration))
    return doubled * max(1, math.ceil(round(seconds * _rate(info), 6)))


def _rate(info: Info) -> float:
    """Return the frame rate according to the container's frame count if that is plausible, otherwise the nominal rate."""
    rate = float(info.shape.rate)
    counted = info.frames / info.seconds if info.frames and info.seconds else rate
    return counted if 1 / MAX_RATE_RATIO < counted / rate < MAX_RATE_RATIO else rate
