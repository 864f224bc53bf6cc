"""Division of a job into ranges: decided once, from the packets of its source, without decoding."""

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from upres.engine.decode.cut import Span
from upres.engine.decode.filters import PREFILTERS, SHOTS_WARMUP
from upres.engine.decode.packets.scan import Scan
from upres.engine.decode.reader import Reader
from upres.engine.encode.video import segment_length
from upres.engine.pipeline.options import Job

RANGES_A_DEVICE = 4  # at least: a lost range then costs little, and readers of the log wait less for the first range
LAST_RANGES = 2  # per device, of the remaining video: ranges shrink towards the end so that all devices end together
LONGEST_SECONDS = 10  # of video in a range: readers of the log wait for one device to finish the first range
MOST_RANGES = 1 << 14  # each is listed in a message and has a folder
MOST_READ_AGAIN = 2  # limit on additional decoding from keyframes to range starts, over the source's length
FAR_SECONDS = 5  # how far before its keyframe a seek may end up


@dataclass(frozen=True, slots=True)
class Plan:
    """Ranges of a job. spans: in order. why: reason why the job is not divided, if there is only one span and a reason."""

    spans: tuple[Span, ...] = (Span(),)
    why: str | None = None


def plan(reader: Reader, job: Job, devices: int) -> Plan:
    """Plan the ranges of a job on an open source for a number of devices. Reads all packets of the source.

    A range starts at the start of a segment. Decoding for it starts at a keyframe, early enough to include the preceding frames
    that pre-filters need.
    """
    if why := _obstacle(job):
        return Plan(why=why)
    if not reader.again:
        return Plan(why="the source can be read once only")
    if reader.unpacked:
        return Plan(why="the source has to be unpacked, which every device would do")
    scan = reader.scan()
    if why := _untrusted(reader, scan, whole=job.cut.duration is None):
        return Plan(why=why)
    cut = job.cut
    times = [at for at in scan.times if (not cut.start or at >= 0) and (cut.duration is None or at < cut.duration)]
    spans = _spans(times, scan.keys, job, devices)
    last = spans[-1].after
    if last is not None and not reader.seek_lands_after(last, _before(scan.keys, last) - FAR_SECONDS):
        return Plan(why="the source is not seekable: it has no index")
    return Plan(spans)


def _obstacle(job: Job) -> str | None:
    """Return which part of a job depends on all earlier frames; None if no part does."""
    if job.encoder.live or job.keep_up or job.encoder.fragment != "segment":
        return "it is published frame by frame"
    if names := [model.name for model in job.models if model.warmup != 0]:
        return f"{', '.join(names)} remembers earlier frames"
    if names := [name for name in job.prefilters if PREFILTERS[name].warmup is None]:
        return f"the pre-filter {', '.join(names)} remembers earlier frames"
    return None


def _untrusted(reader: Reader, scan: Scan, *, whole: bool) -> str | None:
    if scan.anomalies:
        return f"the source's packets cannot be relied on ({scan.anomalies})"
    if not scan.keys:
        return "the source does not mark its keyframes"
    if whole and (reader.info.frames or 0) > scan.packets:
        return f"the source announces {reader.info.frames} frames and holds {scan.packets}"
    return None


def _spans(times: Sequence[Fraction], keys: Sequence[Fraction], job: Job, devices: int) -> tuple[Span, ...]:
    if not times:
        return (Span(),)
    length, lasts = segment_length(job.encoder), times[-1] - times[0]
    first = times[0] // length
    cells = [int(at // length - first) for at in times]  # index of the segment that contains each frame
    segments = [n for n in range(len(cells)) if n == 0 or cells[n] > cells[n - 1]]  # first frame of each segment
    longest, least = (
        max(1, min(math.ceil(len(segments) / (devices * RANGES_A_DEVICE)), int(LONGEST_SECONDS / length))),
        1,
    )
    while True:
        starts = [segments[number] for number in _starts(len(segments), devices, max(least, longest), least)]
        edges = [(first + cells[number]) * length for number in starts]
        after = [times[max(0, number - _warmup(job))] for number in starts]
        again = sum((start - _before(keys, at) for start, at in zip(edges, after, strict=True)), Fraction(0))
        if not starts or (len(starts) < MOST_RANGES and again <= MOST_READ_AGAIN * lasts):
            return tuple(map(Span, [None, *edges], [*edges, None], [None, *after]))
        least *= 2


def _starts(count: int, devices: int, longest: int, least: int) -> Iterator[int]:
    """Yield the first segment of each range except the first range. longest, least: limits on the segments in a range."""
    at = 0
    while (remaining := count - at) > 0:
        at += max(least, min(longest, math.ceil(remaining / (devices * LAST_RANGES))))
        if at < count:
            yield at


def _before(keys: Sequence[Fraction], second: Fraction) -> Fraction:
    """Return the last keyframe at or before a time."""
    return keys[max(0, bisect_right(keys, second) - 1)]


def _warmup(job: Job) -> int:
    """Return the number of frames before a range that pre-filters and shot detection need to be unaffected by its start."""
    return sum(PREFILTERS[name].warmup or 0 for name in job.prefilters) + SHOTS_WARMUP * job.at_shots
