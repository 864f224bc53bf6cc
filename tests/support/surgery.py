"""Files changed by hand, for what no muxer here writes: boxes of MP4 and QuickTime, elements of Matroska."""

import struct

BOXES = (b"moov", b"trak", b"mdia", b"minf", b"stbl")  # that hold boxes
ELEMENTS = (b"\x18\x53\x80\x67", b"\x16\x54\xae\x6b", b"\xae", b"\xe0")  # Segment, Tracks, TrackEntry, Video


def boxes(data, change):
    """A file with every box's body as `change(kind, body)` gives it. Media has to come before the index: its place is kept."""
    out, at = b"", 0
    while at < len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        body = data[at + 8 : at + size]
        body = change(kind, boxes(body, change) if kind in BOXES else body)
        out, at = out + struct.pack(">I4s", len(body) + 8, kind) + body, at + size
    return out


def first_entry(body, tag, more=b"", name=None):
    """The body of a `stsd` whose first entry has boxes added at its end, and another name, if it is of this kind."""
    size, kind = struct.unpack_from(">I4s", body, 8)
    if kind != tag:
        return body
    entry = struct.pack(">I4s", size + len(more), name or kind) + body[16 : 8 + size] + more
    return body[:8] + entry + body[8 + size :]


def elements(data, change):
    """A file with every element's body as `change(name, body)` gives it. Places in it are kept by none: it has to be a live one."""
    out, at = b"", 0
    while at < len(data):
        start = at + 9 - data[at].bit_length()
        end = start + 9 - data[start].bit_length()
        name, bits = data[at:start], (1 << 7 * (end - start)) - 1
        size = int.from_bytes(data[start:end], "big") & bits
        at = len(data) if size == bits else end + size
        body = change(name, elements(data[end:at], change) if name in ELEMENTS else data[end:at])
        length = (1 << 56) - 1 if size == bits else len(body)
        out += name + (1 << 56 | length).to_bytes(8, "big") + body
    return out
