"""Samples of a track that are not played: how libavformat reports them, and how Matroska stores them.

MP4 hides them with an edit list, which its muxer derives from times before 0. Matroska has CodecDelay (RFC 9559, 5.1.4.1.25) for
hidden samples at the start and DiscardPadding (5.1.3.5.7) for those at the end.
"""

import io
import struct
from fractions import Fraction
from typing import Any, Literal

import av
from av import Packet
from av.packet import PacketSideData, packet_sidedata_type_from_literal
from av.stream import Stream

from .fragment import header_file

# AV_PKT_DATA_SKIP_SAMPLES: samples hidden at a packet's start and at its end, and a reason for each.
SKIP_SAMPLES = struct.Struct("<IIBB")
NAME, CODEC_DELAY = b"\x53\x6e", b"\x56\xaa"  # two elements of a Matroska track
PLACE = b"\x88"  # an element's length: eight bytes
TITLE = "CodecDly"


def side_data(packet: "Packet[Any]", kind: Literal["skip_samples", "new_extradata"]) -> bytes:
    """Return side data that libavcodec attached to a packet; empty if there is none."""
    data = PacketSideData.from_packet(packet, kind)
    return bytes(data) if data else b""


def hidden(packet: "Packet[Any]") -> tuple[int, int]:
    """Return the number of samples of a packet that are not played, at its start and at its end."""
    data = side_data(packet, "skip_samples")
    start, end, _, _ = SKIP_SAMPLES.unpack_from(data) if len(data) >= SKIP_SAMPLES.size else (0, 0, 0, 0)
    return start, end


def hide_end(packet: "Packet[Any]", samples: int) -> None:
    """Mark samples at a packet's end as not played, for Matroska's muxer."""
    make: Any = PacketSideData  # the type stub lacks its constructor
    data: PacketSideData = make(packet_sidedata_type_from_literal("skip_samples"), SKIP_SAMPLES.size)
    data.update(SKIP_SAMPLES.pack(0, samples, 0, 0))
    data.to_packet(packet)


def delayed(stream: Stream, seconds: Fraction) -> Stream:
    """Return a copy of a stream whose first `seconds` are not played when it is written to Matroska.

    PyAV cannot set a stream's initial padding, but a stream read from Matroska has it. Therefore a header is written with a title
    of eight letters, the title element is replaced by a CodecDelay of eight bytes in nanoseconds, and the header is read back.
    """
    if stream.codec_context.delay == seconds * stream.codec_context.sample_rate:  # type: ignore[attr-defined] # audio has one
        return stream
    header = header_file(stream, "matroska", TITLE)
    title = NAME + PLACE + TITLE.encode()
    delay = CODEC_DELAY + PLACE + round(seconds * 10**9).to_bytes(8, "big")
    return av.open(io.BytesIO(header.replace(title, delay))).streams[0]
