"""What a source holds, as its container and its first frame say."""

from dataclasses import dataclass
from fractions import Fraction

import av
from av import VideoFrame
from av.container import InputContainer

from upres.engine.color.convert import HDR, depth_of, resolve
from upres.engine.color.light import light_of
from upres.engine.color.orientation import Orientation, orientation
from upres.engine.color.planes import layout_of
from upres.engine.core.errors import SourceError
from upres.engine.core.frame import Layout, Shape
from upres.engine.core.text import number

from .container import Tracks, codec_name
from .packets.survey import Survey, declared_rate

HDR_BITS = 10  # a channel, that high dynamic range takes at least
USUAL_RATE = Fraction(25)
LONGEST_TICK = 3600  # seconds; a time lapse of a frame an hour is the slowest that is believed
FINEST_TICKS = 10_000_000  # a second, where a tick is no whole part of one


@dataclass(frozen=True, slots=True)
class Info:
    """What a source holds. seconds and frames are the container's word, or counted; None where nothing gives them.

    layout: what its planes mean, where they are upright 8-bit 4:2:0 that a model may take as it is.
    """

    shape: Shape
    container: str
    codec: str
    pixel_format: str
    bits: int
    orientation: Orientation
    interlaced: bool
    seconds: float | None
    frames: int | None
    audio: tuple[str, ...]
    subtitles: tuple[str, ...]
    layout: Layout | None


def describe(container: InputContainer, tracks: Tracks, first: VideoFrame, surveyed: Survey | None) -> Info:
    """Describe an open source. first: its first frame. surveyed: what was counted, if it was.

    Raises SourceError for colors that cannot be converted.
    """
    shape = _shape(tracks, first, surveyed)
    return Info(
        shape=shape,
        container=container.format.name,
        codec=codec_name(tracks.video),
        pixel_format=first.format.name,
        bits=depth_of(first),
        orientation=orientation(first),
        interlaced=first.interlaced_frame,
        seconds=float(surveyed.seconds) if surveyed else announced_seconds(container, tracks),
        frames=_announced_frames(container, tracks),
        audio=tuple(map(codec_name, tracks.audio)),
        subtitles=tuple(map(codec_name, tracks.subtitles)),
        layout=None if shape.deep else layout_of(first, shape.color),
    )


def _announced_frames(container: InputContainer, tracks: Tracks) -> int | None:
    """Return how many frames a container says that it has; of MP4, without those before and between what its edit list shows."""
    frames = max(tracks.video.frames, 0)
    indexed = len(tracks.video.index_entries) if "mp4" in container.format.name else 0
    return (min(frames, indexed) if indexed else frames) or None


def _shape(tracks: Tracks, first: VideoFrame, surveyed: Survey | None) -> Shape:
    video = tracks.video
    turned, color = orientation(first).lying, resolve(first)
    hdr = color.transfer in HDR
    aspect = video.sample_aspect_ratio or Fraction(1)
    return Shape(
        width=first.height if turned else first.width,
        height=first.width if turned else first.height,
        time_base=_held(video.time_base or Fraction(1, 90000)),
        rate=declared_rate(tracks) or (surveyed and surveyed.rate) or USUAL_RATE,
        sample_aspect=1 / aspect if turned else aspect,
        color=color,
        bits=max(depth_of(first), HDR_BITS) if hdr else depth_of(first),
        light=light_of(first) if hdr else None,
    )


def announced_seconds(container: InputContainer, tracks: Tracks) -> float | None:
    """Return how long a container says that it lasts; None where it says nothing, or less than nothing."""
    video = tracks.video
    if video.duration and video.duration > 0 and video.time_base:
        return float(video.duration * video.time_base)
    before = max(0, container.start_time or 0) if _says_when_it_ends(container) else 0
    lasts = (container.duration or 0) - before
    return lasts / av.time_base if lasts > 0 else None


def _says_when_it_ends(container: InputContainer) -> bool:
    """Tell whether what a container calls its length is its end, as in Matroska by libavformat; of other muxers it is a length."""
    by = next((value for key, value in container.metadata.items() if key.lower() == "encoder"), "")
    return "matroska" in container.format.name and by.startswith("Lavf")


def _held(time_base: Fraction) -> Fraction:
    """Return a tick as MP4 holds it, whose clock has no numerator: a fraction of huge numbers, as in AVI, is rounded.

    Otherwise a single frame would take more ticks of that clock than a file can say. Raises SourceError for a tick of hours.
    """
    if time_base > LONGEST_TICK:
        raise SourceError(f"its header says that a frame lasts {number(time_base, 3)} seconds or more; it is damaged")
    fine = time_base.numerator > 1 and time_base.denominator > FINEST_TICKS
    return time_base.limit_denominator(FINEST_TICKS) if fine else time_base
