"""Packets to fragments: one short-lived muxer for each, so that a fragment depends on nothing but its packets.

Any suffix of a track's fragments plays behind the track's init section.
Fragments are fMP4, or Matroska for a codec that MP4 does not know (WavPack). Boxes: ISO/IEC 14496-12 (moov 8.2.1, moof 8.8.4,
mdat 8.1.1). Elements: RFC 8794, 4 to 6; Cluster: RFC 9559, 5.1.3.
"""

import io
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

import av
from av import Packet
from av.container import OutputContainer
from av.stream import Stream

EARLY_MOVFLAGS = "empty_moov+default_base_moof+frag_discont"
MOVFLAGS = f"{EARLY_MOVFLAGS}+delay_moov"
SEGMENT, CLUSTER = b"\x18\x53\x80\x67", b"\x1f\x43\xb6\x75"


def mux(packets: Sequence["Packet[Any]"], template: Stream, number: int, container: str = "mp4") -> tuple[bytes, bytes]:
    """Return the init section (ftyp, moov; or all before the first Cluster) and one fragment (moof, mdat; or Clusters).

    packets: in decoding order, dts >= 0, in the template's time base; they are rebound to the muxer's stream.
    template: the stream they were made by. number: the fragment's place in its track, from 1. container: libavformat's name.
    """
    if container == "matroska":
        data = _muxed(packets, template, container, {"live": "1"})
        at = _first_cluster(data)
        return data[:at], data[at:]
    data = _muxed(packets, template, container, {"movflags": MOVFLAGS, "fragment_index": str(number)})
    # The header of raw sound would count the samples of its fragment, were it written after them.
    raw = template.codec_context.name.startswith("pcm_")
    head = _muxed((), template, container, {"movflags": EARLY_MOVFLAGS}) if raw else data
    return _only(head, b"ftyp", b"moov"), _only(data, b"moof", b"mdat")


def _muxed(packets: Sequence["Packet[Any]"], template: Stream, container: str, options: dict[str, str]) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format=container, options={**options, "fflags": "+bitexact"}) as output:
        stream = add_copy(output, template)
        output.start_encoding()
        for packet in packets:
            packet.stream = stream
            output.mux(packet)
    return file.getvalue()


def _only(data: bytes, *kinds: bytes) -> bytes:
    return b"".join(box for kind, box in boxes(data) if kind in kinds)


def add_copy(container: OutputContainer, template: Stream) -> Stream:
    """Add a stream for packets of the template's codec, in the template's time base."""
    stream = container.add_stream_from_template(template, opaque=True)
    if template.codec_context.name in ("hevc", "libx265") and container.format.name in ("mp4", "mov"):
        stream.codec_context.codec_tag = "hvc1"  # the tag that Apple's players ask for
    return stream


def specimen(stream: Stream, container: str, title: str = "") -> bytes:
    """Return a file with this stream and one packet of a byte, without which it would not open: the way its header is kept."""
    file = io.BytesIO()
    with av.open(file, "w", format=container, options={"fflags": "+bitexact", "write_crc32": "0"}) as output:
        copy = add_copy(output, stream)
        copy.metadata["title"] = title
        output.start_encoding()
        packet: Packet[Any] = Packet(1)
        packet.pts = packet.dts = 0
        packet.duration, packet.time_base, packet.stream = 1, copy.time_base or Fraction(1, 1000), copy
        output.mux(packet)
    return file.getvalue()


def boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the top-level boxes of an MP4, each with its kind."""
    at = 0
    while at + 8 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        if size == 1:
            size = int.from_bytes(data[at + 8 : at + 16], "big")
        yield data[at + 4 : at + 8], data[at : at + size]
        at += size


def _first_cluster(data: bytes) -> int:
    """Return where the first Cluster of a Matroska file starts, or where the file ends."""
    at = 0
    while at < len(data) and data[at : at + 4] != CLUSTER:
        name = at + _width(data[at])
        body = name + _width(data[name])
        size = int.from_bytes(data[name:body], "big") & ((1 << 7 * (body - name)) - 1)
        at = body if data[at:name] == SEGMENT else body + size  # a Segment holds all that follows
    return at


def _width(first: int) -> int:
    """Return the bytes of an element's name or length, given by the leading zeros of its first byte."""
    return 9 - first.bit_length()
