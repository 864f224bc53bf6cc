"""Frame times and keyframes of a file, according to its packets; nothing is decoded."""

from dataclasses import dataclass
from fractions import Fraction

import av
from av.container import InputContainer

from upres.engine.core.timeline import Repairs
from upres.engine.decode.container import Tracks
from upres.engine.decode.demuxer import Demuxer


@dataclass(frozen=True, slots=True)
class Scan:
    """Result of a scan.

    times: presentation times of all visible frames in order, in seconds of the frames' times. keys: times of keyframes.
    packets: number of video packets, including those of hidden frames.
    anomalies: what makes the packets unreliable; None if nothing does.
    """

    times: tuple[Fraction, ...]
    keys: tuple[Fraction, ...]
    packets: int
    anomalies: str | None


def scan(container: InputContainer, tracks: Tracks, origin: Fraction, until: Fraction | None = None) -> Scan:
    """Scan the packets of a container that is used for nothing else. origin: the second of its clock that is 0 in the result.

    until: as for Demuxer.
    """
    repairs = Repairs()
    ticks: list[int] = []
    keys: list[int] = []
    count = 0
    avi = container.format.name == "avi"  # stores decoding times only, which are in the order of the frames
    for packet in Demuxer(container, tracks, repairs, until=until):
        if packet.stream.index != tracks.video.index or not packet.size:
            continue
        count += 1
        if packet.is_discard:
            continue
        repairs.damaged += packet.is_corrupt
        stamp = packet.dts if avi else packet.pts
        if stamp is None:
            repairs.missing += 1
            continue
        ticks.append(stamp)
        if packet.is_keyframe:
            keys.append(stamp)
    repairs.doubled += len(ticks) - len({*ticks})
    time_base = tracks.video.time_base or Fraction(1, 90000)
    times, key_times = (tuple(tick * time_base - origin for tick in sorted(stamps)) for stamps in (ticks, keys))
    if not ticks:
        repairs.missing += 1
    return Scan(times, key_times, count, str(repairs) if repairs else None)


def seek_landing(container: InputContainer, tracks: Tracks, second: Fraction) -> Fraction | None:
    """Return the time of the first video packet after a seek, both in seconds of the container's clock; None if there is none."""
    try:
        container.seek(max(0, round(second * av.time_base)))
        first = next(packet for packet in container.demux(tracks.video) if packet.size)
    except (av.FFmpegError, StopIteration):
        return None
    stamp = first.dts if first.pts is None else first.pts
    return None if stamp is None else stamp * first.time_base
