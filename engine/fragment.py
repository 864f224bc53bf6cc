"""Packets to fragments: one short-lived fMP4 muxer for each, so that a fragment depends on nothing but its packets.

The init section is the same for every fragment of a track, and any suffix of a track's fragments plays behind it.
Boxes: ISO/IEC 14496-12 (moov 8.2.1, moof 8.8.4, mdat 8.1.1).
"""

import io
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

import av
from av import Packet
from av.container import OutputContainer
from av.stream import Stream

MOVFLAGS = "empty_moov+delay_moov+default_base_moof+frag_discont"


def mux(packets: Sequence["Packet[Any]"], template: Stream, number: int) -> tuple[bytes, bytes]:
    """The init section (ftyp, moov) and one fragment (moof, mdat) that holds these packets.

    packets: in decoding order, dts >= 0, in the template's time base; they are rebound to the muxer's stream.
    template: the stream they were made by. number: the fragment's place in its track, from 1.
    """
    file = io.BytesIO()
    options = {"movflags": MOVFLAGS, "fragment_index": str(number), "fflags": "+bitexact"}
    with av.open(file, "w", format="mp4", options=options) as container:
        stream = add_copy(container, template)
        for packet in packets:
            packet.stream = stream
            container.mux(packet)
    init, body = b"", b""
    for kind, box in boxes(file.getvalue()):
        if kind in (b"ftyp", b"moov"):
            init += box
        elif kind in (b"moof", b"mdat"):
            body += box
    return init, body


def add_copy(container: OutputContainer, template: Stream) -> Stream:
    """A stream for packets of the template's codec, in the template's time base."""
    stream = container.add_stream_from_template(template, opaque=True)
    if template.codec_context.name in ("hevc", "libx265") and container.format.name in ("mp4", "mov"):
        stream.codec_context.codec_tag = "hvc1"  # the tag that Apple's players ask for
    return stream


def specimen(stream: Stream, container: str, title: str = "") -> bytes:
    """A file with this stream and one packet of a byte: the way its header is kept. Without a packet it would not open."""
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
    """The top-level boxes of an MP4, each with its kind."""
    at = 0
    while at + 8 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        if size == 1:
            size = int.from_bytes(data[at + 8 : at + 16], "big")
        yield data[at + 4 : at + 8], data[at : at + size]
        at += size
