"""Dolby Vision: what a track's configuration record says of the picture that lies under it."""

import struct
from dataclasses import dataclass

from av import VideoFrame, VideoStream

from upres.engine.color.convert import UNSPECIFIED
from upres.engine.color.side_data import side_data
from upres.engine.core.errors import SourceError

from .header import header_of

# Versions; profile (7 bits), level (6), flags (3); what the base layer is compatible with.
RECORD = struct.Struct(">BBHB")
EXTRA_DATA = b"\x41\xed"  # BlockAddIDExtraData (RFC 9559, 5.1.4.1.17), which holds the record in Matroska
KINDS = (b"dvcC", b"dvvC", b"dvwC")
TO_HDR10 = (
    "ffmpeg -i IN -vf libplacebo=colorspace=bt2020nc:color_primaries=bt2020:color_trc=smpte2084:format=yuv420p10 "
    "-c:v libx265 -c:a copy OUT.mkv"
)


@dataclass(frozen=True, slots=True)
class DolbyVision:
    """profile: as the record numbers it. compatible: whether the picture is one of HDR10, HLG or SDR without the rest."""

    profile: int
    compatible: bool


def dolby_vision(video: VideoStream, first: VideoFrame) -> DolbyVision | None:
    """Return what a track's record says, or its first frame where it has none; None where it is no Dolby Vision.

    PyAV does not show a track's record, but the header that libavformat's Matroska muxer writes for it holds it.
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


def refuse_what_only_dolby_decodes(name: str, video: VideoStream, first: VideoFrame) -> None:
    """Raise SourceError where the picture below is none of HDR10, HLG or SDR. name: of the source, for people."""
    dolby = dolby_vision(video, first)
    if dolby is not None and not dolby.compatible:
        raise SourceError(
            f"{name}: is Dolby Vision profile {dolby.profile}, whose colors Dolby's decoders can convert, and an FFmpeg "
            f"with libplacebo and Vulkan: {TO_HDR10}; or take a version whose base layer is HDR10, HLG or SDR"
        )
