"""Actual duration and frame rate of a file whose container cannot be trusted, measured over its packets; nothing is decoded."""

from dataclasses import dataclass
from fractions import Fraction

from av.container import InputContainer

from upres.engine.core.timeline import Repairs
from upres.engine.decode.container import CLOCK_MAY_JUMP, Tracks
from upres.engine.decode.demuxer import Demuxer

MOST_BYTES = 64 << 20  # maximum number of bytes to read; the rest is extrapolated
# Frames per second; a higher rate is not believed if it equals the ticks per second of the container's clock.
FASTEST = 300


@dataclass(frozen=True, slots=True)
class Survey:
    """Result of a survey. seconds: duration of the whole file. rate: average frames per second; None for a single frame.

    jumps: whether the file's clock jumps, so that seeking by time is not possible.
    """

    seconds: Fraction
    rate: Fraction | None
    jumps: bool


def declared_rate(tracks: Tracks) -> Fraction | None:
    """Return the frame rate that a container declares; None if that is only its clock rate (1000 in Matroska, 60000 in DV).

    For a raw bitstream it is the rate in the bitstream itself, because libavformat assumes 25 for all of them.
    """
    video = tracks.video
    own: Fraction | None = video.codec_context.framerate if tracks.untimed else None
    for rate in (own, video.average_rate, video.guessed_rate):
        if rate and rate > 0 and (rate <= FASTEST or rate * (video.time_base or 1) != 1):
            return rate
    return None


def is_needed(container: InputContainer, tracks: Tracks) -> bool:
    """Report whether the declared duration of a container is unreliable: its clock may jump, or it declares no frame rate."""
    return bool(container.format.flags & CLOCK_MAY_JUMP) or declared_rate(tracks) is None


def survey(container: InputContainer, tracks: Tracks) -> Survey | None:
    """Survey the packets of a container that is used for nothing else; return None if they have no timestamps."""
    repairs = Repairs()
    demuxer = Demuxer(container, tracks, repairs)
    time_base = tracks.video.time_base or Fraction(1, 90000)
    times: list[Fraction] = []
    size, start, whole = 0, None, True
    for packet in demuxer:
        stamp = packet.pts if packet.pts is not None else packet.dts
        if stamp is None or not packet.size:
            continue
        second = stamp * packet.time_base
        start = second if start is None else min(start, second)
        if packet.stream.index == tracks.video.index and not packet.is_discard:
            times.append(stamp * time_base)
        size += packet.size
        if size > MOST_BYTES:
            whole = False
            break
    if start is None or demuxer.reached is None or not times:
        return None
    seconds = demuxer.reached - start
    if not whole and container.size > demuxer.reached_byte > 0:
        seconds = seconds * container.size / demuxer.reached_byte
    span = max(times) - min(times)
    return Survey(seconds, (len(times) - 1) / span if span > 0 else None, bool(repairs.backward or repairs.forward))
