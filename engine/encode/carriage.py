"""Decides for each item of a source whether it is carried to the result, converted, or left out, and why."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction

import av
from av import VideoStream
from av.stream import AttachmentStream, Disposition, Stream

from upres.engine.core.channels import Channels
from upres.engine.core.text import number
from upres.engine.decode.inventory import TIMECODE, Item, Kind
from upres.engine.encode.audio.codecs import codec_in

from .codecs import CAPTIONED, MATROSKA
from .fragment import add_copy, early_header
from .join.tracks import tag_flags
from .subtitles import TEXT


class Fate(Enum):
    """What happens to an item."""

    CARRIED = "carried"
    CONVERTED = "converted"
    LEFT_OUT = "left out"


@dataclass(frozen=True, slots=True)
class Decision:
    """The fate of an item. note: message for the user; None if nothing is lost."""

    item: Item
    fate: Fate
    note: str | None = None


MOST_NAMES = 10  # maximum number of tag names in a note
LARGEST_ATTACHMENT = 32 << 20  # bytes; attachments are stored in the log's index
HEADER_FROM_PACKETS = ("ac3", "eac3")  # codecs whose header in MP4 is derived from the first packets
DYNAMIC = "it goes with the source's own frames; the picture below it, which every player shows, is upscaled"
LEFT_OUT = {
    Kind.OTHER_VIDEO: "one video track is upscaled",
    Kind.COVER: "cover pictures are not carried",
    Kind.DATA: "tracks that are neither video, sound nor subtitles are not carried",
    Kind.SPHERICAL: "projections are not carried",
    Kind.SPATIAL: "the channels are carried, but not what makes them a sound field",
    Kind.STEREO: "stereoscopic layouts are not carried",
    Kind.ICC: "color profiles are not applied",
    Kind.HDR10_PLUS: DYNAMIC,
    Kind.HDR_VIVID: DYNAMIC,
    Kind.DOLBY_VISION: DYNAMIC,
}
"""Reasons, for kinds of items that are never carried."""
MARKS = {
    "matroska": ("dub", "original", "comment", "forced", "hearing_impaired", "visual_impaired"),
    "mp4": ("dub", "comment", "forced", "hearing_impaired", "visual_impaired"),
    "webm": ("forced",),
    "mov": (),
}
"""Dispositions of a track, in FFmpeg's names, that libavformat can write to each container, in addition to `default`."""


def decide(
    item: Item,
    container: str,
    channels: Mapping[int, Channels],
    rate: Fraction,
    *,
    library: str,
    streamed: bool,
    later: bool,
) -> Decision:
    """Decide what happens to an item in a result of this container (libavformat's name).

    channels: channel layouts of the audio tracks, by track index. rate: frames per second of the result.
    library: FFmpeg's name of the video encoder.
    streamed: the result is written while it is produced. libavformat's MP4 fragments cannot represent gaps between subtitles.
    later: the result begins later than the source.
    """
    if item.obstacle is not None:
        return _left_out(item, item.obstacle)
    if item.kind in LEFT_OUT:
        return _left_out(item, LEFT_OUT[item.kind])
    if item.kind is Kind.AUDIO and item.stream is not None:
        return _audio(item, item.stream, container, channels[item.stream.index])
    if item.kind is Kind.SUBTITLES and streamed and container not in MATROSKA:
        return _left_out(item, f"{container} written as a stream has no subtitles; use `container` mkv")
    if item.kind is Kind.SUBTITLES and item.stream is not None and not can_hold(container, item.stream):
        return _subtitles(item, item.stream, container)
    if item.kind is Kind.CAPTIONS and library not in CAPTIONED:
        return _left_out(item, f"{library} cannot carry them; `codec` h264 and hevc can")
    if item.kind is Kind.TIMECODE and later:
        return _left_out(item, "it says when the source begins, and the result begins later")
    if (
        item.kind is Kind.TIMECODE
        and container not in MATROSKA
        and not _supports_timecode(dict(item.tags), container, rate)
    ):
        return _left_out(item, f"{container} cannot carry it at {number(rate, 4)} frames a second; mkv can")
    if item.kind is Kind.TAGS:
        return _tags(item, container)
    if item.kind is Kind.ATTACHMENT:
        return _attachment(item, container)
    if item.kind is Kind.ALPHA:
        return Decision(
            item, Fate.CONVERTED, "transparent parts, if any, are shown over black: the result has no transparency"
        )
    converted = item.kind in (Kind.VIDEO, Kind.HDR)
    return Decision(item, Fate.CONVERTED if converted else Fate.CARRIED)


def _audio(item: Item, stream: Stream, container: str, channels: Channels) -> Decision:
    ordered = channels.native or not stream.codec_context.name.startswith("pcm_")
    if ordered and can_hold(container, stream):
        return Decision(item, Fate.CARRIED)
    what = "cannot be copied into " + container if ordered else "has its channels in a non-standard order"
    codec = codec_in(container)
    layout = "" if ordered else f", from {'+'.join(channels.names)} to {codec.layout_for(channels)}"
    return Decision(item, Fate.CONVERTED, f"{item.name} {what} and becomes {codec.name}{layout}")


def lost_marks_note(decision: Decision, container: str) -> str | None:
    """Return a message about dispositions and languages that a carried track loses in this container; None if it loses none."""
    item = decision.item
    if item.stream is None or item.kind not in (Kind.AUDIO, Kind.SUBTITLES) or decision.fate is Fate.LEFT_OUT:
        return None
    lost = _lost_marks(item.stream, container)
    note = f"{item.name} is no longer marked as {', '.join(lost)}: {container} has no place for that, and mkv has"
    return note if lost else None


def aspect_warnings(container: str, library: str, aspect: Fraction) -> list[str]:
    """Return a warning if the pixels of a result are not square and its file cannot store that; otherwise an empty list.

    H.264 and HEVC bitstreams store it, and so do MP4 and QuickTime for all codecs; PyAV cannot write it to Matroska's header.
    library: FFmpeg's name of the encoder. aspect: of a pixel, width over height.
    """
    if aspect == 1 or container not in MATROSKA or library in CAPTIONED:
        return []
    shape = f"{aspect.numerator}:{aspect.denominator}"
    return [
        f"players will show its {shape} pixels as squares: {container} with {library} does not store the shape; mp4 does"
    ]


def _lost_marks(stream: Stream, container: str) -> list[str]:
    """Return the dispositions of a track that the container cannot store, and its language if that is lost."""
    marks = {name for names in MARKS.values() for name in names} - {*MARKS.get(container, ())}
    lost = [name.replace("_", " ") for name in sorted(marks) if Disposition[name] in stream.disposition]
    language = next((value for key, value in stream.metadata.items() if key.lower() == "language"), "und")
    if container in MATROSKA or language == "und":
        return lost
    written = _kept({"language": language}, container, of_track=True)[1].get("language")
    return lost if written == language else [*lost, f"language {language}"]


def _subtitles(item: Item, stream: Stream, container: str) -> Decision:
    if not stream.codec_context.codec.text_sub:
        return _left_out(item, f"{container} cannot hold it")
    return Decision(
        item, Fate.CONVERTED, f"{item.name} cannot be copied into {container} and becomes {TEXT[container]}"
    )


def _attachment(item: Item, container: str) -> Decision:
    if container != "matroska":
        return _left_out(item, "only Matroska holds attachments")
    if len(attachment_data(item.stream)) > LARGEST_ATTACHMENT:
        return _left_out(item, f"attachments over {LARGEST_ATTACHMENT >> 20} MiB are not carried")
    return Decision(item, Fate.CARRIED)


def _tags(item: Item, container: str) -> Decision:
    lost = [] if container in MATROSKA else lost_tags(dict(item.tags), container, of_track=item.name != "tags")
    if not lost:
        return Decision(item, Fate.CARRIED)
    names = ", ".join(lost[:MOST_NAMES]) + (f" and {len(lost) - MOST_NAMES} more" if len(lost) > MOST_NAMES else "")
    note = f"{item.name} ({names}), left out: {container} has no place for them, and mkv has"
    return Decision(item, Fate.CARRIED if len(lost) < len(item.tags) else Fate.LEFT_OUT, note)


def lost_tags(tags: Mapping[str, str], container: str, *, of_track: bool) -> list[str]:
    """Return the names of tags that MP4 or QuickTime cannot store, found by writing a file in memory.

    of_track: the tags belong to a track, not to the file.
    """
    whole_file, track = _kept(tags, container, of_track=of_track)[:2]
    kept = track if of_track else whole_file
    names = {key.lower() for key in kept}
    return [key for key, value in tags.items() if key.lower() not in names and value not in kept.values()]


def _supports_timecode(timecode: Mapping[str, str], container: str, rate: Fraction) -> bool:
    """Report whether MP4 or QuickTime can store a time code at a frame rate, found by writing a file in memory."""
    return any(TIMECODE in tags for tags in _kept(timecode, container, rate=max(1, round(rate))))


def _kept(tags: Mapping[str, str], container: str, *, of_track: bool = False, rate: int = 1) -> list[dict[str, str]]:
    """Write a file with these tags in memory; return the tags of the file, then those of each of its tracks."""
    file = io.BytesIO()
    options = {"movflags": "+".join(("empty_moov", *tag_flags(tags)))}
    with av.open(file, "w", format=container, options=options) as output:
        stream = output.add_stream("mpeg4", rate=rate)
        assert isinstance(stream, VideoStream)
        stream.width = stream.height = 16
        stream.pix_fmt = "yuv420p"
        (stream if of_track else output).metadata.update(tags)
        output.start_encoding()
    with av.open(io.BytesIO(file.getvalue()), metadata_errors="replace") as written:
        return [written.metadata, *(stream.metadata for stream in written.streams)]


def attachment_data(stream: Stream | None) -> bytes:
    """Return the content of an attachment stream; empty for any other stream."""
    return bytes(stream.data or b"") if isinstance(stream, AttachmentStream) else b""


def can_hold(container: str, stream: Stream) -> bool:
    """Report whether a container (libavformat's name) can hold a stream's packets, found by writing a header in memory.

    Raw audio in MP4 (ISO/IEC 23003-5) is treated as unsupported, because FFmpeg before 6 and most players do not support it.
    """
    if container == "mp4" and stream.codec_context.name.startswith("pcm_"):
        return False
    try:
        if container == "mp4" and stream.type == "audio" and stream.codec_context.name not in HEADER_FROM_PACKETS:
            early_header(stream)
        with av.open(io.BytesIO(), "w", format=container) as output:
            add_copy(output, stream)
            output.start_encoding()
    except (av.FFmpegError, ValueError):
        return False
    return True


def _left_out(item: Item, reason: str) -> Decision:
    return Decision(item, Fate.LEFT_OUT, f"{item.name} is left out: {reason}")
