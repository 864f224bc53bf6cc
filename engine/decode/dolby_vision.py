"""Dolby Vision: the configuration record of a track, which describes its base layer."""

import struct
from dataclasses import dataclass

from av import VideoFrame, VideoStream

from upres.engine.color.convert import UNSPECIFIED
from upres.engine.color.side_data import side_data
from upres.engine.core.errors import SourceError

from .header import header_of

# Versions; profile (7 bits), level (6), flags (3); compatibility of the base layer.
RECORD = struct.Struct(">BBHB")
EXTRA_DATA = b"\x41\xed"  # BlockAddIDExtraData (RFC 9559, 5.1.4.1.17), which holds the record in Matroska
KINDS = (b"dvcC", b"dvvC", b"dvwC")
TO_HDR10 = (
    "ffmpeg -i IN -vf libplacebo=colorspace=bt2020nc:color_primaries=bt2020:color_trc=smpte2084:format=yuv420p10 "
    "-c:v libx265 -c:a copy OUT.mkv"
)


@dataclass(frozen=True, slots=True)
class DolbyVision:
    """Kind of Dolby Vision. profile: number in the record. compatible: whether the base layer alone is HDR10, HLG or SDR."""

    profile: int
    compatible: bool


def dolby_vision(video: VideoStream, first: VideoFrame) -> DolbyVision | None:
    """Return the kind according to a track's record, or to its first frame if there is no record; None if it is no Dolby Vision.

    PyAV does not expose the record of a track, but libavformat's Matroska muxer writes it into the track's header.
    """
    header = header_of(video)
    for kind in KINDS:
        at = header.find(EXTRA_DATA, header.find(kind)) if kind in header else -1
        record = header[at + len(EXTRA_DATA) + 1 :][: RECORD.size] if at >= 0 else b""
        if len(record) == RECORD.size:
            _, _, bits, compatible = RECORD.unpack(record)
            return DolbyVision(bits >> 9, compatible >> 4 != 0)
    if side_data(first, "DOVI_METADATA") or side_data(first, "DOVI_RPU_BUFFER"):
        return DolbyVision(5, False) if first.color_trc == UNSPECIFIED else DolbyVision(8, True)
    return None


def check_dolby_vision(name: str, video: VideoStream, first: VideoFrame) -> None:
    """Raise SourceError if the base layer is not HDR10, HLG or SDR. name: of the source, for the message."""
    dolby = dolby_vision(video, first)
    if dolby is not None and not dolby.compatible:
        raise SourceError(
            f"{name}: is Dolby Vision profile {dolby.profile}, whose colors only Dolby's decoders can convert, or an FFmpeg "
            f"with libplacebo and Vulkan: {TO_HDR10}; or use a version whose base layer is HDR10, HLG or SDR"
        )
