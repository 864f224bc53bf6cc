"""Muxing of packets into fragments, each with a new muxer, so that a fragment depends only on its packets.

A track's init section is created with its first fragment; followed by any suffix of the track's fragments it is playable.
Fragments are fMP4, or Matroska for a codec that MP4 has no mapping for (WavPack). Boxes: ISO/IEC 14496-12 (moov 8.2.1,
moof 8.8.4, mfhd 8.8.5, traf 8.8.6, tfdt 8.8.12, mdat 8.1.1, mdcv and clli 12.1.6). Elements: RFC 8794, 4 to 6;
Cluster: RFC 9559, 5.1.3.
"""

import io
import struct
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

import av
from av import Packet
from av.container import OutputContainer
from av.stream import Stream

from upres.engine.core.frame import Light

EARLY_MOVFLAGS = "empty_moov+default_base_moof+frag_discont"
MOVFLAGS = f"{EARLY_MOVFLAGS}+delay_moov"
LONGEST_TICKS = (1 << 31) - 1  # maximum duration of a sample that libavformat can write
NUMBER = struct.Struct(">II")  # version and flags; then the fragment's number (mfhd) or its track's (tfhd)
DECODE_TIME = struct.Struct(">IQ")  # tfdt: version (1: 64 bits) and flags, ticks
ENTRY = (*b"moov trak mdia minf stbl stsd".split(), b"")  # the boxes around the sample entries; empty: the first entry
LIST_FIELDS = 8  # bytes of fields in stsd before its entries
SEGMENT, CLUSTER = b"\x18\x53\x80\x67", b"\x1f\x43\xb6\x75"


def mux(packets: Sequence["Packet[Any]"], template: Stream, number: int, container: str = "mp4") -> tuple[bytes, bytes]:
    """Return an init section (ftyp, moov; or all before the first Cluster) and one fragment (moof, mdat; or Clusters).

    packets: in decoding order, dts >= 0, all in one time base; their stream and times are modified.
    template: the stream that encoded them. number: the fragment's number in its track, from 1. container: libavformat's name.
    Raises FFmpegError or ValueError if libavformat cannot write the packets.
    """
    if container == "matroska":
        data, _ = _muxed(packets, template, container, {"live": "1"})
        at = _first_cluster(data)
        return data[:at], data[at:]
    # Times are shifted to 0, because libavformat writes different headers for late packets, and wrong ones past 2^31 ticks.
    first = packets[0].dts or 0
    start = first * packets[0].time_base
    for packet in packets:
        packet.pts, packet.dts = (packet.pts or 0) - first, (packet.dts or 0) - first
    options = {"movflags": MOVFLAGS, "fragment_index": str(number)}
    data, time_base = _muxed(packets, template, container, options)
    # The header of raw audio is written before the packets; otherwise it would contain the fragment's sample count.
    raw = template.codec_context.name.startswith("pcm_")
    head = early_header(template, container) if raw else data
    if not raw and sum(packet.duration or 0 for packet in packets) >= LONGEST_TICKS:
        # The header is created with a short packet; otherwise it would have 64-bit durations, unlike those of shorter fragments.
        packets[0].duration = 1
        head, _ = _muxed(packets[:1], template, container, options)
    return header_of(head), delayed(_only(data, b"moof", b"mdat"), round(start / time_base))


def early_header(template: Stream, container: str = "mp4") -> bytes:
    """Return the header of a fragmented file without packets. Raises FFmpegError or ValueError if it cannot be written."""
    data, _ = _muxed((), template, container, {"movflags": EARLY_MOVFLAGS})
    return header_of(data)


def _muxed(
    packets: Sequence["Packet[Any]"], template: Stream, container: str, options: dict[str, str]
) -> tuple[bytes, Fraction]:
    """Return a file with one stream, and the time base that the muxer chose."""
    file = io.BytesIO()
    with av.open(file, "w", format=container, options={**options, "fflags": "+bitexact"}) as output:
        stream = add_copy(output, template)
        output.start_encoding()
        time_base = stream.time_base or Fraction(1)
        for packet in packets:
            longest = int(LONGEST_TICKS * time_base / packet.time_base) if packet.time_base else LONGEST_TICKS
            packet.duration = min(packet.duration or 0, longest)
            packet.stream = stream
            output.mux(packet)
    return file.getvalue(), time_base


def with_light(init: bytes, light: Light | None) -> bytes:
    """Return the header of an MP4 with one video track, with HDR light metadata added at the end of its sample entry."""
    added = b"" if light is None else _light_boxes(light)
    if not added:
        return init
    data, start, end, offsets = bytearray(init), 0, len(init), []
    for name in ENTRY:
        kind, start, end = next(box for box in _boxes(data, start, end) if name in (box[0], b""))
        offsets.append(start)
        start += 8 + LIST_FIELDS * (kind == b"stsd")
    for offset in offsets:
        data[offset : offset + 4] = (int.from_bytes(data[offset : offset + 4], "big") + len(added)).to_bytes(4, "big")
    data[end:end] = added
    return bytes(data)


def _light_boxes(light: Light) -> bytes:
    data = b""
    if light.primaries and light.luminance:
        data += struct.pack(">I4s8H2I", 32, b"mdcv", *light.primaries, *light.luminance)
    if light.content:
        data += struct.pack(">I4s2H", 12, b"clli", *(min(level, 0xFFFF) for level in light.content))
    return data


def delayed(fragment: bytes, ticks: int) -> bytes:
    """Return a fragment (one or more pairs of moof and mdat) with ticks of its header's time scale added to all decode times."""
    data = bytearray(fragment)
    for kind, start, end in _boxes(data, 0, len(data)):
        for at in _decode_times(data, start + 8, end) if kind == b"moof" else ():
            version, time = DECODE_TIME.unpack_from(data, at)
            DECODE_TIME.pack_into(data, at, version, time + ticks)
    return bytes(data)


def renumbered(fragment: bytes, by: int, container: str = "mp4") -> bytes:
    """Return a fragment created by `mux` with its number in the track increased, if its container stores that number."""
    data = bytearray(fragment)
    for kind, start, end in _boxes(data, 0, len(data)) if container != "matroska" else ():
        for inner, at, _ in _boxes(data, start + 8, end) if kind == b"moof" else ():
            if inner == b"mfhd":
                version, number = NUMBER.unpack_from(data, at + 8)
                NUMBER.pack_into(data, at + 8, version, number + by)
    return bytes(data)


def in_file(fragment: bytes, track: int, numbers: Iterator[int]) -> bytes:
    """Return a fragment created by `mux` as part of an MP4 with several tracks.

    track: number of its track in that file, from 1. numbers: yields the sequence number for each next moof of the file.
    """
    data = bytearray(fragment)
    for kind, start, end in _boxes(data, 0, len(data)):
        for inner, at, last in _boxes(data, start + 8, end) if kind == b"moof" else ():
            if inner == b"mfhd":
                NUMBER.pack_into(data, at + 8, 0, next(numbers))
            elif inner == b"traf":
                [header] = [at for name, at, _ in _boxes(data, at + 8, last) if name == b"tfhd"]
                NUMBER.pack_into(data, header + 8, NUMBER.unpack_from(data, header + 8)[0], track)
    return bytes(data)


def header_of(file: bytes) -> bytes:
    """Return the header (ftyp, moov) of a fragmented MP4. Raises ValueError if there is none."""
    return _only(file, b"ftyp", b"moov")


def _decode_times(data: bytearray, start: int, end: int) -> Iterator[int]:
    """Yield the offset of the decode time of each track fragment in a moof's body."""
    for kind, inner, last in _boxes(data, start, end):
        if kind == b"traf":
            yield from (at + 8 for other, at, _ in _boxes(data, inner + 8, last) if other == b"tfdt")


def _only(data: bytes, *kinds: bytes) -> bytes:
    chosen = [(kind, box) for kind, box in boxes(data) if kind in kinds]
    if missing := {*kinds} - {kind for kind, _ in chosen}:
        raise ValueError(f"the muxer wrote no {b', '.join(missing).decode()}")
    return b"".join(box for _, box in chosen)


def add_copy(container: OutputContainer, template: Stream) -> Stream:
    """Add a stream for packets of the template's codec, in the template's time base."""
    stream = container.add_stream_from_template(template, opaque=True)
    if template.codec_context.name in ("hevc", "hevc_nvenc", "libx265") and container.format.name in ("mp4", "mov"):
        stream.codec_context.codec_tag = "hvc1"  # the tag that Apple's players require
    return stream


def header_file(stream: Stream, container: str, title: str = "") -> bytes:
    """Return a minimal file that stores a stream's header. It has one packet of one byte, without which it could not be opened."""
    file = io.BytesIO()
    options = {"fflags": "+bitexact", **({"write_crc32": "0"} if container == "matroska" else {})}
    with av.open(file, "w", format=container, options=options) as output:
        copy = add_copy(output, stream)
        copy.metadata["title"] = title
        output.start_encoding()
        packet: Packet[Any] = Packet(1)
        packet.pts = packet.dts = 0
        packet.duration, packet.time_base, packet.stream = 1, copy.time_base or Fraction(1, 1000), copy
        output.mux(packet)
    return file.getvalue()


def boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield type and bytes of the top-level boxes of an MP4. Raises ValueError for an invalid box size."""
    for kind, start, end in _boxes(data, 0, len(data)):
        yield kind, data[start:end]


def _boxes(data: bytes | bytearray, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield type, start and end of the boxes between two offsets."""
    while start + 8 <= end:
        size, least = int.from_bytes(data[start : start + 4], "big"), 8
        if size == 1:
            size, least = int.from_bytes(data[start + 8 : start + 16], "big"), 16
        if not least <= size <= end - start:
            raise ValueError(f"a box at byte {start} has {size} bytes, where {least} to {end - start} are possible")
        yield bytes(data[start + 4 : start + 8]), start, start + size
        start += size


def _first_cluster(data: bytes) -> int:
    """Return the offset of the first Cluster of a Matroska file, or the end of the file if there is none."""
    at = 0
    while at < len(data) and data[at : at + 4] != CLUSTER:
        name = at + _width(data[at])
        body = name + _width(data[name])
        size = int.from_bytes(data[name:body], "big") & ((1 << 7 * (body - name)) - 1)
        at = body if data[at:name] == SEGMENT else body + size  # a Segment contains all following elements
    return at


def _width(first: int) -> int:
    """Return the size in bytes of an element's ID or length field, which the leading zeros of its first byte encode."""
    return 9 - first.bit_length()
