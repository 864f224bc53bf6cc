"""Properties of a source, according to its container and its first frame, and what it lacks in comparison with them."""

from dataclasses import dataclass
from fractions import Fraction

import av
from av import VideoFrame, VideoStream
from av.container import InputContainer

from upres.engine.color.convert import HDR, depth_of, resolve
from upres.engine.color.light import light_of
from upres.engine.color.orientation import Orientation, orientation
from upres.engine.color.planes import layout_of
from upres.engine.core.errors import SourceError
from upres.engine.core.frame import Layout, Shape
from upres.engine.core.text import counted, number
from upres.engine.core.timeline import Repairs

from .container import CLOCK_MAY_JUMP, LIMIT, Tracks, codec_name, listed
from .cut import Cut
from .demuxer import Demuxer
from .packets.survey import Survey, declared_rate

HDR_BITS = 10  # minimum bits per channel of high dynamic range
DEFAULT_RATE = Fraction(25)
LONGEST_TICK = 3600  # seconds; the slowest plausible video is a time lapse with one frame per hour
SHORT_SECONDS, SHORT_SHARE = 0.5, 0.02  # a smaller difference from the declared duration may be due to rounding
FINEST_TICKS = 10_000_000  # maximum ticks per second of a time base that is rounded to a fraction


@dataclass(frozen=True, slots=True)
class Info:
    """Properties of a source.

    seconds, frames: as declared by the container, or counted; None if unknown.
    layout: interpretation of the planes if they are upright 8-bit 4:2:0, which a model may accept directly; otherwise None.
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
    """Return the properties of an open source. first: its first frame. surveyed: results of a survey, if there was one.

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
        frames=_declared_frames(container, tracks),
        audio=tuple(map(codec_name, tracks.audio)),
        subtitles=tuple(map(codec_name, tracks.subtitles)),
        layout=None if shape.deep else layout_of(first, shape.color),
    )


def _declared_frames(container: InputContainer, tracks: Tracks) -> int | None:
    """Return the number of frames that a container declares; in MP4, without the frames that its edit list hides."""
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
        time_base=_representable(video.time_base or Fraction(1, 90000)),
        rate=declared_rate(tracks) or (surveyed and surveyed.rate) or DEFAULT_RATE,
        sample_aspect=1 / aspect if turned else aspect,
        color=color,
        bits=max(depth_of(first), HDR_BITS) if hdr else depth_of(first),
        light=light_of(first) if hdr else None,
    )


def announced_seconds(container: InputContainer, tracks: Tracks) -> float | None:
    """Return the duration that a container declares; None if it declares none, or one that is not positive."""
    video = tracks.video
    if video.duration and video.duration > 0 and video.time_base:
        return float(video.duration * video.time_base)
    before = max(0, container.start_time or 0) if _duration_is_end_time(container) else 0
    duration = (container.duration or 0) - before
    return duration / av.time_base if duration > 0 else None


def _duration_is_end_time(container: InputContainer) -> bool:
    """Report whether a container's duration is actually its end time, as in Matroska files that libavformat has written."""
    muxer = next((value for key, value in container.metadata.items() if key.lower() == "encoder"), "")
    return "matroska" in container.format.name and muxer.startswith("Lavf")


def _representable(time_base: Fraction) -> Fraction:
    """Return a time base that MP4, whose clock has no numerator, can represent: fractions of large numbers (AVI) are rounded.

    Otherwise a single frame could last more ticks than the file can store. Raises SourceError for a tick of more than an hour.
    """
    if time_base > LONGEST_TICK:
        raise SourceError(f"its header says that a frame lasts {number(time_base, 3)} seconds or more; it is damaged")
    if time_base.numerator == 1 or time_base.denominator <= FINEST_TICKS:
        return time_base
    if time_base < Fraction(1, FINEST_TICKS):  # the nearest fraction with such a denominator may be 0
        return Fraction(1, round(1 / time_base))
    return time_base.limit_denominator(FINEST_TICKS)


def start_of(tracks: Tracks) -> Fraction:
    """Return the second of a container's clock at which its earliest video or audio track starts."""
    starts = [
        s.start_time * s.time_base for s in (tracks.video, *tracks.audio) if s.start_time is not None and s.time_base
    ]
    return min(starts, default=Fraction(0))


def missing_frames(info: Info, accounted: int) -> str | None:
    """Return a message if a source read to its end has fewer frames than it announces. accounted: frames decoded or hidden."""
    announced = info.frames or 0
    if accounted >= announced:
        return None
    return f"the source announces {counted(announced, 'frame')}, {accounted} of them could be read"


def missing_seconds(
    container: InputContainer, tracks: Tracks, info: Info, demuxer: Demuxer, origin: Fraction
) -> str | None:
    """Return a message if a source read to its end is shorter than it announces, unless it announces a number of frames.

    demuxer: which has read it. origin: second of its clock at which it starts.
    """
    if container.format.flags & CLOCK_MAY_JUMP:  # the duration there only describes the data read at opening
        return None
    announced, end = announced_seconds(container, tracks), demuxer.end
    if info.frames or announced is None or end is None:
        return None
    read = float(end - origin)
    missing = announced - read - float(demuxer.removed)  # removed gaps have a separate note
    if missing <= max(SHORT_SECONDS, SHORT_SHARE * announced):
        return None
    return f"the source announces {announced:.1f} s, {read:.1f} s of them could be read"


def why_no_frame(container: InputContainer, video: VideoStream, repairs: Repairs, cut: Cut) -> str:
    """Return what is known about a source from which no frame could be decoded."""
    damaged = f"{counted(repairs.damaged, 'damaged packet')}; " if repairs.damaged else ""
    size = "" if video.width else f"its header names no frame size that can be held: at most {LIMIT}; "
    animated = "if it is an animated WebP, save it as a file: FFmpeg decodes still ones only; "
    webp = animated if codec_name(video) == "webp" else ""
    late = f"the cut begins at {number(cut.start)} s; " if cut.start else ""
    return f"{damaged}{webp or size}{late}found: {listed(container)}"
