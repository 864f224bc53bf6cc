"""When the frames of a file are shown, and which of them are key frames, as its packets say: nothing is decoded."""

from dataclasses import dataclass
from fractions import Fraction

from av.container import InputContainer

from upres.engine.core.timeline import Repairs

from .container import Tracks
from .demuxer import Demuxer


@dataclass(frozen=True, slots=True)
class Scan:
    """times: of all frames that are shown, in their order, seconds of the frames' times. keys: those of key frames.

    odd: what of its packets cannot be trusted; None where all of them are as they should be.
    """

    times: tuple[Fraction, ...]
    keys: tuple[Fraction, ...]
    odd: str | None


def scan(container: InputContainer, tracks: Tracks, origin: Fraction) -> Scan:
    """Read all packets of a container that is used for nothing else. origin: the second of its clock that is 0."""
    repairs = Repairs()
    ticks: list[int] = []
    keys: list[int] = []
    avi = container.format.name == "avi"  # which holds decoding times only, in the order of the frames
    for packet in Demuxer(container, tracks, repairs):
        if packet.stream.index != tracks.video.index or not packet.size or packet.is_discard:
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
    times, key_times = (tuple(tick * time_base - origin for tick in sorted(found)) for found in (ticks, keys))
    return Scan(times, key_times, str(repairs) if repairs else None)
