"""Inventory of everything a source contains. What happens to each item is decided later, depending on the result's container."""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from av import VideoFrame
from av.container import InputContainer
from av.sidedata.sidedata import Type
from av.stream import Disposition, Stream

from upres.engine.color.convert import has_alpha
from upres.engine.color.side_data import side_data

from .container import Tracks, codec_name
from .dolby_vision import dolby_vision
from .header import has_spatial_audio

HOUSEKEEPING = re.compile(
    r"major_brand|minor_version|compatible_brands|vendor_id|handler_name|variant_bitrate|software|.*writing.*|.*encod.*|metadatacreator"
    r"|duration|rotate|timecode|_statistics.*|bps|number_of_\w+|source_id|(has|can)[a-z]+|(last|video|audio|data)[a-z]+|wmfsdk.*|isvbr"
    r"|company_name|product_\w+|toolkit_\w+|\w+_umid|generation_uid|operational_pattern_ul|application_platform|modification_date",
    re.IGNORECASE,
)
"""Tags that apply only to the source file itself or name the program that wrote it, and the time code, which is a separate item."""
TIMECODE = "timecode"  # the tag with which libavformat reads and writes a time code
HANDLED_TRACK_TAGS = (
    "title",
    "name",
    "language",
    "creation_time",
    "stereo_mode",
    "alpha_mode",
)  # tags of tracks that are handled separately


class Kind(StrEnum):
    """Kind of an item."""

    VIDEO = "video"
    OTHER_VIDEO = "other video"
    COVER = "cover picture"
    AUDIO = "audio"
    SUBTITLES = "subtitles"
    ATTACHMENT = "attachment"
    DATA = "data"
    CHAPTERS = "chapters"
    TAGS = "tags"
    TIMECODE = "time code"
    CAPTIONS = "closed captions"
    SPHERICAL = "spherical projection"
    SPATIAL = "spatial audio"
    STEREO = "stereoscopic layout"
    ALPHA = "transparency"
    HDR = "mastering metadata"
    HDR10_PLUS = "HDR10+ metadata"
    HDR_VIVID = "HDR Vivid metadata"
    DOLBY_VISION = "Dolby Vision metadata"
    ICC = "color profile"


@dataclass(frozen=True, slots=True)
class Item:
    """One item that a source contains: a track, a group of tags, or a kind of metadata.

    name: for messages. stream: the track that it is or belongs to; None if it belongs to the whole file.
    obstacle: why it cannot be read; None if it can. tags: names and values of tags or of a time code.
    """

    kind: Kind
    name: str
    stream: Stream | None = None
    obstacle: str | None = None
    tags: tuple[tuple[str, str], ...] = ()


SIDE_DATA = {
    Type.A53_CC: Kind.CAPTIONS,
    Type.SPHERICAL: Kind.SPHERICAL,
    Type.STEREO3D: Kind.STEREO,
    Type.MASTERING_DISPLAY_METADATA: Kind.HDR,
    Type.CONTENT_LIGHT_LEVEL: Kind.HDR,
    Type.DYNAMIC_HDR_PLUS: Kind.HDR10_PLUS,
    Type.DYNAMIC_HDR_VIVID: Kind.HDR_VIVID,
    Type.DOVI_METADATA: Kind.DOLBY_VISION,
    Type.ICC_PROFILE: Kind.ICC,
}
"""Side data of a frame that is listed, by FFmpeg's type. Not listed are data that the decoder has already applied (film grain,
motion vectors) and the display matrix, which is applied to the pixels."""


def take_inventory(container: InputContainer, tracks: Tracks, first: VideoFrame) -> tuple[Item, ...]:
    """Return the items of an open source: tracks in file order, then side data of the first frame, then file-wide items."""
    streams = [stream for stream in container.streams if stream not in tracks.chapters]
    tags = {**container.metadata, **tracks.video.metadata}
    code = next((value for key, value in tags.items() if key.lower() == TIMECODE), None)
    items = [_track(stream, tracks, code) for stream in streams]
    if code is not None and not any(item.kind is Kind.TIMECODE for item in items):
        items.append(Item(Kind.TIMECODE, f"time code ({code})", tags=((TIMECODE, code),)))
    labels = [
        _tags(stream.metadata, f"tags, track {stream.index}", without=HANDLED_TRACK_TAGS) for stream in tracks.all
    ]
    return (*items, *_in_frames(tracks, first), *_file_wide(container), *(item for item in labels if item))


def _track(stream: Stream, tracks: Tracks, code: str | None) -> Item:
    kind = _kind(stream, tracks)
    obstacle = None
    if kind in (Kind.AUDIO, Kind.SUBTITLES) and stream not in (*tracks.audio, *tracks.subtitles):
        no_data = "it is announced, but has no data at the beginning"
        obstacle = "no decoder for it" if stream.codec_context is None else no_data
    if stream in tracks.other_programs:
        obstacle = "it belongs to another program"
    if kind is Kind.TIMECODE and code is None:
        obstacle = "it does not belong to the picture"
    tags = ((TIMECODE, code),) if kind is Kind.TIMECODE and code is not None else ()
    return Item(kind, _name(stream, kind), stream, obstacle, tags)


def _kind(stream: Stream, tracks: Tracks) -> Kind:
    if stream is tracks.video:
        return Kind.VIDEO
    if stream.type == "video":
        return Kind.COVER if stream.disposition & Disposition.attached_pic else Kind.OTHER_VIDEO
    kinds = {"audio": Kind.AUDIO, "subtitle": Kind.SUBTITLES, "attachment": Kind.ATTACHMENT}
    if stream.metadata.get("handler_name") == "TimeCodeHandler":
        return Kind.TIMECODE
    return kinds.get(stream.type, Kind.DATA)


def _name(stream: Stream, kind: Kind) -> str:
    label = stream.metadata.get("filename") or stream.metadata.get("title") or stream.metadata.get("handler_name")
    codec = codec_name(stream)
    details = ", ".join(word for word in (codec if codec != "unknown" else "", label) if word)
    return f"{kind}, track {stream.index}" + (f" ({details})" if details else "")


def _in_frames(tracks: Tracks, first: VideoFrame) -> Iterator[Item]:
    kinds = {kind for data, kind in SIDE_DATA.items() if side_data(first, data.name)}
    if dolby_vision(tracks.video, first) is not None:
        kinds.add(Kind.DOLBY_VISION)
    if has_alpha(first) or has_alpha_layer(tracks.video):
        kinds.add(Kind.ALPHA)
    return (Item(kind, kind.value, tracks.video) for kind in Kind if kind in kinds)


def has_alpha_layer(stream: Stream) -> bool:
    """Report whether a VP8 or VP9 track has a separate alpha layer, which WebM declares in a tag."""
    return any(key.lower() == "alpha_mode" and value == "1" for key, value in stream.metadata.items())


def _file_wide(container: InputContainer) -> Iterator[Item]:
    if has_spatial_audio(container):
        yield Item(Kind.SPATIAL, f"{Kind.SPATIAL} (ambisonic)")
    if chapters := container.chapters():
        yield Item(Kind.CHAPTERS, f"chapters ({len(chapters)})")
    if tags := _tags(container.metadata, "tags"):
        yield tags


def _tags(metadata: Mapping[str, str], name: str, without: Collection[str] = ()) -> Item | None:
    """Return an item for the tags that are not specific to this file. A language suffix, as in `date-eng`, is not compared."""
    kept = sorted(
        (key, value)
        for key, value in metadata.items()
        if not HOUSEKEEPING.fullmatch(re.sub(r"-[a-z]{3}$", "", key)) and key.lower() not in without
    )
    return Item(Kind.TAGS, name, tags=tuple(kept)) if kept else None
